# SPDX-License-Identifier: Apache-2.0
"""The API server as this operator sees it: plain JSON objects, and the few verbs that are used on them."""

from rserpool_operator.kube.client import Kube, KubeError, connect
from rserpool_operator.kube.kinds import Kind, Object, Ref, kind_of, ref_of

__all__ = ["Kind", "Kube", "KubeError", "Object", "Ref", "connect", "kind_of", "ref_of"]
