# SPDX-License-Identifier: Apache-2.0
"""The ServerPool: its model, defaults and validation, the same everywhere it is read.

``model`` is the resource, field by field; ``rules`` what fields must be to each other; ``manifest`` reads YAML and
names the line of each fault; ``problems`` says what is wrong in words that tell what to write instead.
"""

from rserpool.pool.manifest import Manifest, read_manifests
from rserpool.pool.model import ServerPool, ServerPoolSpec
from rserpool.pool.problems import ManifestError, Problem

__all__ = ["Manifest", "ManifestError", "Problem", "ServerPool", "ServerPoolSpec", "read_manifests"]
