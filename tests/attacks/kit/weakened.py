# SPDX-License-Identifier: Apache-2.0
"""The daemons with a mechanism switched off: an attack that does not succeed against them proves nothing.

``weakened.py --daemon registrar --without element-role,own-pool --config FILE`` patches what :data:`WEAKENINGS` names,
then runs the daemon as it is. Tests that attack code of ours in their own process (a pool user) apply the same patches
by :func:`weaken`, with a ``put`` that undoes itself. Nothing of the product knows of this.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

Put = Callable[[Any, str, object], None]
"""Puts a value into an attribute: ``setattr``, or pytest's ``monkeypatch.setattr``."""


def _element_role(put: Put) -> None:
    """Whoever comes may be an element, with a certificate or without, whatever its role (threats 2.1, 2.2)."""
    from rserpool.identity.decisions import SecureScope

    put(SecureScope, "_element", lambda *_: None)


def _verification(put: Put) -> None:
    """Any certificate does, whoever signed it, and whenever (threats 2.1, 2.4 to 2.7)."""
    from rserpool.transport import tls

    put(tls, "_remember_why", lambda *_: True)


def _leaf_expiry(put: Put) -> None:
    """An association lasts longer than its peer's leaf (threats 2.1 to 2.7)."""
    from rserpool.transport.leaves import Leaves

    put(Leaves, "add", lambda *_, **__: None)


def _pool_of_certificate(put: Put) -> None:
    """A certificate of any pool does (threat 2.4)."""
    from rserpool.transport.security import Security

    put(Security, "_check_pool", lambda *_: None)


def _own_pool(put: Put) -> None:
    """An element may register any pool handle (threat 2.4)."""
    from dataclasses import replace

    from rserpool.identity.decisions import SecureScope

    strict = SecureScope._element

    def lax(scope: SecureScope, principal: Any, action: Any, handle: bytes | None, identifier: int | None) -> Any:
        return strict(replace(scope, pool_handle=handle or b""), principal, action, handle, identifier)

    put(SecureScope, "_element", lax)


def _own_identifier(put: Put) -> None:
    """An element may use any PE identifier, also one that another element has (threat 2.3)."""
    from rserpool.asap.server.registration import Registrations
    from rserpool.identity.decisions import SecureScope

    strict = SecureScope._element

    def lax(scope: SecureScope, principal: Any, action: Any, handle: bytes | None, identifier: int | None) -> Any:
        del identifier
        own = next(iter(principal.pe_identifiers), None)
        return strict(scope, principal, action, handle, own)

    put(SecureScope, "_element", lax)
    put(Registrations, "_is_same", lambda *_: True)


def _own_address(put: Put) -> None:
    """An element may register addresses it does not speak from (threat 2.3)."""
    from rserpool.asap.server.registration import Registrations

    put(Registrations, "_foreign_address", lambda *_: None)


def _rates(put: Put) -> None:
    """Nothing is too often (threats 2.2, 2.13)."""
    from rserpool.asap.limits import Buckets

    put(Buckets, "take", lambda *_: True)


def _half_open(put: Put) -> None:
    """As many connections without a handshake as anybody likes, for as long as he likes (threats 2.1, 2.2)."""
    from rserpool.transport.half_open import HalfOpen
    from rserpool.transport.stream import ByteStream

    made, begun = HalfOpen.__init__, ByteStream.__init__

    def roomy(crowd: HalfOpen[Any], _most: int = 0) -> None:
        made(crowd, 1_000_000)

    def patient(stream: ByteStream, engine: Any, *, handshake: float, **more: Any) -> None:
        begun(stream, engine, handshake=handshake + 3600, **more)

    put(HalfOpen, "__init__", roomy)
    put(ByteStream, "__init__", patient)


def _registrar_role(put: Put) -> None:
    """Whoever has a certificate may be a registrar: to other registrars, elements and users (threats 2.5 to 2.7)."""
    from rserpool.asap.authorisation import Action
    from rserpool.identity.decisions import SecureScope

    strict = SecureScope.may

    def lax(scope: SecureScope, principal: Any, action: Action, *more: Any, **named: Any) -> Any:
        return None if action in (Action.PEER, Action.HOME) else strict(scope, principal, action, *more, **named)

    put(SecureScope, "may", lax)


def _server_id_binding(put: Put) -> None:
    """A server ID is not bound to the identity that used it first (threat 2.5)."""
    from rserpool.enrp.peers import Peers

    strict = Peers._bind

    def lax(peers: Peers, association: Any, server_id: int, what: str) -> bool:
        known = peers.get(server_id)
        if known is not None:
            known.name = association.principal.name
        return strict(peers, association, server_id, what)

    put(Peers, "_bind", lax)


def _element_identity(put: Put) -> None:
    """A session goes on with whoever is where an element should be (threat 2.9)."""
    from rserpool.session.seeker import Seeker

    put(Seeker, "_distrust", lambda *_: "")


def _report_memory(put: Put) -> None:
    """What one user reports counts as often as it is said (threat 2.13)."""
    from rserpool.asap.server.reports import Reports

    strict = Reports._count

    def lax(reports: Reports, key: Any, reporter: str) -> None:
        if key in reports._tallies:
            reports._tallies[key].reported.clear()
        strict(reports, key, reporter)

    put(Reports, "_count", lax)


def _keep_alive_rate(put: Put) -> None:
    """An element is asked as often as somebody likes (threat 2.14)."""
    from rserpool.asap.limits import TokenBucket

    put(TokenBucket, "wait", lambda *_: 0.0)


def _flood_guard(put: Put) -> None:
    """An element answers every keep-alive (threat 2.14)."""
    from rserpool.asap.flood import FloodGuard, Verdict

    put(FloodGuard, "judge", lambda *_: Verdict.ANSWER)


def _tls_only(put: Put) -> None:
    """Plain octets at a port for TLS are taken for what they say, and whoever says them is believed (threat 2.15)."""
    from rserpool.asap.authorisation import Role
    from rserpool.identity.decisions import SecureScope, unverified
    from rserpool.transport.stream import ByteStream
    from rserpool.transport.tcp import TcpNetwork, where

    fed, named, allowed = ByteStream.data_received, TcpNetwork._principal, SecureScope.may

    def received(stream: ByteStream, data: bytes) -> None:
        engine = stream._engine
        if engine is not None and not engine._fed and data[0] not in (21, 22):
            stream._engine = None
            stream._become_ready()
        fed(stream, data)

    def principal(network: TcpNetwork, stream: ByteStream) -> Any:
        return unverified(where(stream)) if stream.engine is None else named(network, stream)

    def may(scope: SecureScope, who: Any, *more: Any, **named: Any) -> Any:
        return None if who.role is Role.UNVERIFIED else allowed(scope, who, *more, **named)

    put(ByteStream, "data_received", received)
    put(TcpNetwork, "_principal", principal)
    put(SecureScope, "may", may)


def _cookie_seal(put: Put) -> None:
    """A cookie is believed whoever has made it (threat 2.16)."""
    import hmac

    from rserpool.session import cookies

    class Trusting:
        """In place of :mod:`hmac`: what is compared is the same."""

        @staticmethod
        def compare_digest(*_: object) -> bool:
            return True

        new = staticmethod(hmac.new)

    put(cookies, "hmac", Trusting)


def _cookie_pool(put: Put) -> None:
    """A cookie of any pool is believed (threat 2.16)."""
    from rserpool.session import cookies

    class OfAnyPool(bytes):
        """The hash of whichever pool."""

        __slots__ = ()
        __hash__ = bytes.__hash__

        def __eq__(self, _: object) -> bool:
            return True

        def __ne__(self, _: object) -> bool:
            return False

    strict = cookies._hash
    put(cookies, "_hash", lambda pool: OfAnyPool(strict(pool)))


def _cookie_age(put: Put) -> None:
    """A cookie is believed however old it is (threat 2.16)."""
    from rserpool.session.cookies import CookieKeys

    strict = CookieKeys.open

    def lax(keys: CookieKeys, octets: bytes, pool: bytes, moment: float, _most: float) -> Any:
        return strict(keys, octets, pool, moment, float("inf"))

    put(CookieKeys, "open", lax)


def _mentor_search(put: Put) -> None:
    """A registrar that finds nobody serves at once, with an empty handlespace (threat 2.12)."""
    from rserpool.enrp.startup import Startup

    put(Startup, "begin", lambda startup: startup._serve(0))


def _attached_stays(put: Put) -> None:
    """An element goes to whoever claims it, whether or not its association is here (RFC 5355 2.17)."""
    from rserpool.enrp.ownership import Ownership

    put(Ownership, "_keep", lambda *_: False)


def _disputes(put: Put) -> None:
    """Whoever claims an element is believed, however often its home has contradicted (RFC 5355 2.17)."""
    from rserpool.enrp import ownership
    from rserpool.enrp.disputes import Disputes

    put(Disputes, "waits", lambda *_: False)
    put(Disputes, "believes", lambda *_: True)
    put(ownership, "moves", lambda *_: False)


def _home_removes(put: Put) -> None:
    """Any registrar may remove any element (RFC 5355 2.17)."""
    from rserpool.asap.events import Change
    from rserpool.enrp.ownership import Ownership
    from rserpool.wire import UpdateAction

    strict = Ownership.updated

    def lax(ownership: Ownership, peer: Any, update: Any, ignore: Any) -> None:
        if update.action is UpdateAction.DEL_PE:
            key = (update.pool_handle, update.element.identifier)
            ownership._membership.drop(key, Change.REMOVED, "somebody said so", announce=False)
            return
        strict(ownership, peer, update, ignore)

    put(Ownership, "updated", lax)


def _elements_limit(put: Put) -> None:
    """A registrar holds as many elements as others announce (RFC 5355 2.17)."""
    from rserpool.handlespace.space import Handlespace

    put(Handlespace, "__len__", lambda _: 1)


def _no_resumption(put: Put) -> None:
    """TLS sessions may be resumed, by tickets: nobody looks at the certificate again (threat 2.8)."""
    from OpenSSL import SSL

    from rserpool.transport import security, tls

    strict = tls.make_context
    put(SSL, "OP_NO_TICKET", 0)
    put(SSL, "SESS_CACHE_OFF", SSL.SESS_CACHE_SERVER)

    def lax(credentials: Any, *, require_certificate: bool) -> Any:
        context = strict(credentials, require_certificate=require_certificate)
        context.set_session_id(b"rserpool")
        return context

    put(security, "make_context", lax)


WEAKENINGS: Final[dict[str, Callable[[Put], None]]] = {
    "element-role": _element_role,
    "verification": _verification,
    "leaf-expiry": _leaf_expiry,
    "pool-of-certificate": _pool_of_certificate,
    "own-pool": _own_pool,
    "own-identifier": _own_identifier,
    "own-address": _own_address,
    "rates": _rates,
    "half-open": _half_open,
    "registrar-role": _registrar_role,
    "server-id-binding": _server_id_binding,
    "no-resumption": _no_resumption,
    "element-identity": _element_identity,
    "report-memory": _report_memory,
    "keep-alive-rate": _keep_alive_rate,
    "flood-guard": _flood_guard,
    "tls-only": _tls_only,
    "cookie-seal": _cookie_seal,
    "cookie-pool": _cookie_pool,
    "cookie-age": _cookie_age,
    "mentor-search": _mentor_search,
    "attached-stays": _attached_stays,
    "disputes": _disputes,
    "home-removes": _home_removes,
    "elements-limit": _elements_limit,
}
"""What can be switched off, by name. One entry is one mechanism; an attack names those that stop it."""


def weaken(names: Sequence[str], put: Put = setattr) -> None:
    """Switch mechanisms off in this process."""
    for name in names:
        WEAKENINGS[name](put)


def command(daemon: str, names: Sequence[str], config: str) -> tuple[str, ...]:
    """The command line of a weakened daemon, ``registrar`` or ``sidecar``."""
    assert set(names) <= set(WEAKENINGS), f"no such weakening: {set(names) - set(WEAKENINGS)}"
    return (sys.executable, "-OO", __file__, "--daemon", daemon, "--without", ",".join(names), "--config", config)


def _run(daemon: str, names: Sequence[str], arguments: Sequence[str]) -> int:
    from rserpool.daemon.lean import without_second_openssl

    registrar = daemon == "registrar"
    without_second_openssl(uvloop=registrar)
    from rserpool.daemon.process import run_daemon

    weaken(names)
    if registrar:
        from rserpool_registrar.config import RegistrarSettings
        from rserpool_registrar.daemon import main as serve

        return run_daemon("rserpool-registrar", RegistrarSettings, serve, arguments, uvloop=True)
    from rserpool_sidecar.config import SidecarSettings
    from rserpool_sidecar.daemon import main as accompany

    return run_daemon("rserpool-sidecar", SidecarSettings, accompany, arguments, uvloop=False)


if __name__ == "__main__":
    _, _, which, _, switched_off, *rest = sys.argv
    sys.exit(_run(which, switched_off.split(","), rest))
