# SPDX-License-Identifier: Apache-2.0
"""What the operator reports of a ServerPool: the schema of its status, and the columns of `kubectl get`."""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]

CONDITIONS: Final = {
    "Accepted": "the ServerPool makes sense, and nothing else has its pool handle",
    "AuthorityReady": "the pool's certificate authority can sign",
    "RegistrarsReady": "as many registrars serve as are wanted",
    "TrustCurrent": "every process trusts the certificate authorities of now",
    "TransportDegraded": "a transport of spec.transport.order is not in use",
    "Ready": "the pool can be used",
    "Reconciling": "the operator is changing something",
    "Stalled": "the operator cannot go on without help",
}


def _text(description: str, **more: object) -> Schema:
    return {"type": "string", "description": description, **more}


def _count(description: str) -> Schema:
    return {"type": "integer", "format": "int64", "minimum": 0, "description": description}


def _object(description: str, properties: dict[str, Schema], *required: str) -> Schema:
    schema = {"type": "object", "description": description, "properties": properties}
    return {**schema, "required": list(required)} if required else schema


def _texts(description: str) -> Schema:
    return {"type": "array", "description": description, "items": {"type": "string"}}


def _conditions() -> Schema:
    meanings = " ".join(f"{name}: {meaning}." for name, meaning in CONDITIONS.items())
    condition = _object(
        "One of them.",
        {
            "type": _text("What it is of."),
            "status": _text("Whether it is so.", enum=["True", "False", "Unknown"]),
            "reason": _text("Why, in one word."),
            "message": _text("Why, and what to do."),
            "lastTransitionTime": _text("When the status changed.", format="date-time"),
            "observedGeneration": _count("Generation of the ServerPool it was seen at."),
        },
        "type",
        "status",
    )
    return {
        "type": "array",
        "description": f"How the pool is. {meanings}",
        "items": condition,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    }


STATUS: Final[Schema] = _object(
    "What the operator sees; written by it alone.",
    {
        "observedGeneration": _count("Generation of the ServerPool that all of this is about."),
        "version": _text("Image version of registrars and new sidecars."),
        "handle": _text("Pool handle in force."),
        "selector": _text("Label selector of the pool's elements."),
        "conditions": _conditions(),
        "registrars": _object(
            "The pool's registrars.",
            {
                "replicas": _count("How many there are."),
                "ready": _count("How many of them serve."),
                "transports": _texts("Transports in use."),
            },
        ),
        "elements": _object(
            "The pool's elements.",
            {
                "matched": _count("Pods labelled as elements."),
                "enrolled": _count("Pods with an identity."),
                "registered": _count("Elements in the pool."),
                "notInjected": _count("Pods without a sidecar; re-create them."),
                "outdated": _count("Pods whose sidecar is of another version."),
            },
        ),
        "authority": _object(
            "The pool's certificate authority.",
            {
                "generation": _count("Generation of the CA that signs."),
                "next": _count("Generation that is being prepared to replace it."),
                "former": _count("Generation that it has replaced, and that is still being left."),
                "phase": _text(
                    "Where a replacement of the CA is: Active (there is none), Preparing, Activating, Retiring;"
                    " Pending: the first CA is being made; Stopped: see the condition AuthorityReady."
                ),
                "since": _text("When the phase of a replacement began.", format="date-time"),
                "notBefore": _text("When the CA certificate's life began.", format="date-time"),
                "notAfter": _text("When the CA certificate ends.", format="date-time"),
                "missing": _texts("Pods that have not taken part in a change yet, 20 at most."),
                "keys": {
                    "type": "object",
                    "description": "Public keys of the CAs that are trusted, by generation: sha256 and their hash.",
                    "additionalProperties": {"type": "string"},
                },
                "signers": {
                    "type": "object",
                    "description": "Who signs, or signed, with each, as in spec.security.signer when it was in force.",
                    "additionalProperties": _object(
                        "Of one generation.",
                        {
                            "type": _text("CertManager, Embedded or IssuerRef."),
                            "issuerRef": _object(
                                "IssuerRef: which issuer.",
                                {
                                    "name": _text("The issuer's name."),
                                    "kind": _text("Its kind."),
                                    "group": _text("Its API group."),
                                },
                            ),
                            "caBundle": _text("IssuerRef: what is trusted, PEM in base64."),
                        },
                    ),
                },
                "latest": _count("The highest generation there ever was, if it was given up before it signed."),
            },
        ),
    },
)


def _column(name: str, path: str, description: str, kind: str = "string", *, wide: bool = False) -> Schema:
    column = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return {**column, "priority": 1} if wide else column


_READY: Final = '.status.conditions[?(@.type=="Ready")]'
COLUMNS: Final[list[Schema]] = [
    _column("Handle", ".status.handle", "Pool handle."),
    _column("Policy", ".spec.policy.type", "How elements are chosen."),
    _column("Registrars", ".status.registrars.ready", "Registrars that serve.", "integer"),
    _column("Wanted", ".spec.registrars.replicas", "Registrars that shall serve.", "integer"),
    _column("Elements", ".status.elements.registered", "Elements in the pool.", "integer"),
    _column("Matched", ".status.elements.matched", "Pods labelled as elements.", "integer"),
    _column("Ready", f"{_READY}.status", "Whether the pool can be used."),
    # A column of type date shows how long ago; this one lies ahead.
    _column("CA-Expiry", ".status.authority.notAfter", "When the CA certificate ends.", wide=True),
    _column("Transports", ".status.registrars.transports", "Transports in use.", wide=True),
    _column("Reason", f"{_READY}.reason", "Why it is ready, or not.", wide=True),
    _column("Version", ".status.version", "Image version.", wide=True),
    _column("Age", ".metadata.creationTimestamp", "Since when there is this ServerPool.", "date"),
]
