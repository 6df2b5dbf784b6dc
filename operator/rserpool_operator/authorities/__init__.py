# SPDX-License-Identifier: Apache-2.0
"""Who signs a pool's leaves: the operator itself, or cert-manager. ``sign`` takes requests, ``certify`` bare keys."""

from rserpool_operator.authorities.pod_certificates import certify, whole_bundle
from rserpool_operator.authorities.signing import AuthorityError, bundle_of, sign

__all__ = ["AuthorityError", "bundle_of", "certify", "sign", "whole_bundle"]
