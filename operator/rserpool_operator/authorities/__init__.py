# SPDX-License-Identifier: Apache-2.0
"""Who signs a pool's leaves: the operator itself, or cert-manager. ``sign`` takes requests, ``certify`` bare keys."""

from rserpool_operator.authorities.pod_certificates import certify
from rserpool_operator.authorities.signing import AuthorityError, authorities_of, bundle_of, sign, whole_bundle

__all__ = ["AuthorityError", "authorities_of", "bundle_of", "certify", "sign", "whole_bundle"]
