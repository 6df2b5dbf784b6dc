# SPDX-License-Identifier: Apache-2.0
"""What a pool consists of on a cluster, as manifests: one module an object. Pure: from the ServerPool to JSON."""
