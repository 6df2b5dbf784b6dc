# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests stand on: the cluster, kubectl, waiting, pools, faults, and what is kept of a failure."""
