# SPDX-License-Identifier: Apache-2.0
"""Who signs a pool's leaves: the operator itself, or cert-manager. One verb: sign."""

from rserpool_operator.authorities.signing import AuthorityError, bundle_of, sign

__all__ = ["AuthorityError", "bundle_of", "sign"]
