# SPDX-License-Identifier: Apache-2.0
"""Why something is as it is: the words of conditions and Events, what they mean, and what to do.

docs/reasons.md is made of this table; tests hold the code to it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """Reasons in conditions and Events."""

    VALID = "Valid"
    INVALID = "Invalid"
    NOT_SUPPORTED = "NotSupported"
    PAUSED = "Paused"
    NAME_TAKEN = "NameTaken"
    AUTHORITY_ISSUED = "AuthorityIssued"
    WAITING_FOR_AUTHORITY = "WaitingForAuthority"
    CERT_MANAGER_MISSING = "CertManagerMissing"
    POD_CERTIFICATES_MISSING = "PodCertificatesMissing"
    BUNDLE_UNREADABLE = "BundleUnreadable"
    BUNDLE_REFUSED = "BundleRefused"
    ISSUER_FAILS = "IssuerFails"
    CA_LOST = "CALost"
    CA_EXPIRED = "CAExpired"
    CA_EXPIRES_SOON = "CAExpiresSoon"
    CA_REPLACING = "CAReplacing"
    CA_REPLACEMENT_WAITS = "CAReplacementWaits"
    FORMER_CA_LOST = "FormerCALost"
    REGISTRARS_READY = "RegistrarsReady"
    REGISTRARS_STARTING = "RegistrarsStarting"
    REGISTRARS_UNAVAILABLE = "RegistrarsUnavailable"
    ROLLOUT_STUCK = "RolloutStuck"
    TRUST_LOADED = "TrustLoaded"
    TRUST_PENDING = "TrustPending"
    AS_ORDERED = "AsOrdered"
    SCTP_UNAVAILABLE = "SctpUnavailable"
    SERVING = "Serving"
    NOT_SERVING = "NotServing"
    SETTLED = "Settled"
    PROGRESSING = "Progressing"
    NOTHING_WRONG = "NothingWrong"
    NOT_INJECTED = "NotInjected"
    POOL_NOT_FOUND = "PoolNotFound"
    ENROLMENT_REFUSED = "EnrolmentRefused"
    CONTROL_REFUSED = "ControlRefused"
    IDENTITY_REVOKED = "IdentityRevoked"


TABLE: Final[dict[Reason, tuple[str, str]]] = {
    Reason.VALID: ("The spec is in order.", "Nothing."),
    Reason.INVALID: (
        "The spec contradicts itself; what ran before goes on unchanged.",
        "Correct the fields that the message names.",
    ),
    Reason.NOT_SUPPORTED: (
        "The spec asks for something that this version does not have; nothing is begun or changed.",
        "Write what the message names.",
    ),
    Reason.PAUSED: ("`spec.paused` is true: nothing is changed.", "Set it to false to go on."),
    Reason.NAME_TAKEN: (
        "An object that the pool needs exists already, and is not the pool's.",
        "Rename or delete that object, or create the ServerPool with another name.",
    ),
    Reason.AUTHORITY_ISSUED: ("The pool's CA is there and signs.", "Nothing."),
    Reason.WAITING_FOR_AUTHORITY: (
        "The CA has been asked for; its maker has not delivered it yet.",
        "Wait a moment; then look at the Certificate that the message names.",
    ),
    Reason.CERT_MANAGER_MISSING: (
        "The signer is CertManager or IssuerRef, and the cluster has no cert-manager.",
        "Install cert-manager, or write `security.signer.type: Embedded`.",
    ),
    Reason.POD_CERTIFICATES_MISSING: (
        "The enrolment is PodCertificate, and the cluster knows no PodCertificateRequest; nothing is begun or changed.",
        "Use Kubernetes 1.37 or newer, or create the ServerPool anew with `security.enrolment: Token`.",
    ),
    Reason.BUNDLE_UNREADABLE: (
        "`security.signer.caBundle` holds no certificate.",
        "Write the PEM of the issuing authority in base64.",
    ),
    Reason.BUNDLE_REFUSED: (
        "`security.signer.caBundle` names a CA that cannot be trusted beside the present one; the pool stays as it is.",
        "Give your issuer's new CA a subject of its own, and write it into the bundle.",
    ),
    Reason.ISSUER_FAILS: (
        "The issuer to which the pool is to move gives no certificate of a CA in its bundle. The former signer signs.",
        "Correct `issuerRef` or `caBundle`, or look at the issuer; it is asked again every half minute.",
    ),
    Reason.CA_LOST: (
        "The CA's key is another one than this pool's, or is gone. Pods go on with their leaves; nothing is signed.",
        "Restore the Secret from a backup; or accept a new key, with the command in the message, and restart the pods.",
    ),
    Reason.CA_EXPIRED: (
        "The CA's certificate has expired; nothing is signed.",
        "Wait: a CA made for the pool is replaced by itself, and pods enrol again. IssuerRef: renew your issuer's CA.",
    ),
    Reason.CA_EXPIRES_SOON: (
        "The CA's certificate has lived five sixths of its life, and still signs.",
        "Look at `status.authority`: what does the replacement wait for? With IssuerRef: renew your issuer's CA.",
    ),
    Reason.CA_REPLACING: (
        "The CA is being replaced: its key, or the signer; the message says how far it is.",
        "Nothing; it takes some four minutes.",
    ),
    Reason.CA_REPLACEMENT_WAITS: (
        "The replacement of the CA has waited for more than ten minutes for the pods that the message names.",
        "Look at those pods, or delete them; if they will never answer, go on with the command in the message.",
    ),
    Reason.FORMER_CA_LOST: (
        "The Secret of a CA that is being replaced is gone while pods have certificates of it. Nothing is signed.",
        "Restore the Secret from a backup; or go on without these pods: `rserpool rotate-ca --go-on NS/POOL`.",
    ),
    Reason.REGISTRARS_READY: ("All registrars serve.", "Nothing."),
    Reason.REGISTRARS_STARTING: ("Registrars are starting.", "Wait."),
    Reason.REGISTRARS_UNAVAILABLE: (
        "Registrars that should serve do not.",
        "Look at the pods that the message names: `kubectl describe pod`, `kubectl logs`.",
    ),
    Reason.ROLLOUT_STUCK: (
        "A registrar with the new image does not start; the others were left alone.",
        "Correct `spec.version`; the stuck pod is replaced by itself.",
    ),
    Reason.TRUST_LOADED: ("Every process that speaks to the operator has loaded the trust bundle.", "Nothing."),
    Reason.TRUST_PENDING: (
        "Some processes have not said yet that they loaded the trust bundle: `status.authority.missing`.",
        "Wait half a minute; then look at the log of those pods.",
    ),
    Reason.AS_ORDERED: ("The first transport of `transport.order` is in use.", "Nothing."),
    Reason.SCTP_UNAVAILABLE: (
        "SCTP comes first in `transport.order`, and the registrars speak TCP: the pool works, without multi-homing.",
        "Nothing; or write `transport.order: [TCP]` to be told no more.",
    ),
    Reason.SERVING: ("The pool serves, with at most one registrar missing.", "Nothing."),
    Reason.NOT_SERVING: ("The pool does not serve; the message says what is missing.", "See the other conditions."),
    Reason.SETTLED: ("What there is, is what shall be.", "Nothing."),
    Reason.PROGRESSING: ("The operator is at work.", "Wait."),
    Reason.NOTHING_WRONG: ("Nothing needs a person.", "Nothing."),
    Reason.NOT_INJECTED: (
        "A pod has the pool's label but no sidecar: it ran before it got the label, or before the webhook was there.",
        "Recreate the pod.",
    ),
    Reason.POOL_NOT_FOUND: (
        "A pod is labelled for a ServerPool that does not exist; its sidecar waits.",
        "Create the ServerPool, or correct the label `rserpool.io/pool`.",
    ),
    Reason.ENROLMENT_REFUSED: (
        "A pod asked for a certificate that it may not have, or not yet; the message says why.",
        "If it should have it: correct what the message names. Sidecars ask again by themselves.",
    ),
    Reason.CONTROL_REFUSED: (
        "Somebody with a certificate of a pool asked for what is not its own.",
        "Find out who runs in the pod that the message names.",
    ),
    Reason.IDENTITY_REVOKED: (
        "The pod's label was removed or changed while it ran: its element was removed from the pool.",
        "Recreate the pod with the label it should have.",
    ),
}
"""Reason -> (meaning, what to do)."""
