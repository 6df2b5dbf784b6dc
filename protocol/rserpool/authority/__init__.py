# SPDX-License-Identifier: Apache-2.0
"""Certificates: requests for them, and the embedded authority that signs them.

``requests`` makes keys and requests (in the pod) and reads them (at the authority); ``embedded`` is an authority
whose key is in this process; every authority has the shape of :class:`Authority`.
"""

from rserpool.authority.embedded import Authority, EmbeddedAuthority, SigningError
from rserpool.authority.requests import KeyAndRequest, make_request, names_of_request

__all__ = ["Authority", "EmbeddedAuthority", "KeyAndRequest", "SigningError", "make_request", "names_of_request"]
