# SPDX-License-Identifier: Apache-2.0
"""What a certificate says, and who may do what: pure functions.

``uri`` is the form of an identity, ``numbers`` derives PE identifiers from it, ``decisions`` answers the machines'
questions.
"""

from rserpool.identity.decisions import InsecureScope, Revoking, SecureScope, principal_of
from rserpool.identity.numbers import pe_identifiers
from rserpool.identity.uri import IdentityError, LeafIdentity

__all__ = [
    "IdentityError",
    "InsecureScope",
    "LeafIdentity",
    "Revoking",
    "SecureScope",
    "pe_identifiers",
    "principal_of",
]
