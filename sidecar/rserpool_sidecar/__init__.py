# SPDX-License-Identifier: Apache-2.0
"""The ASAP sidecar daemon: keeps one application registered while it is healthy, and takes it out when it is not."""
