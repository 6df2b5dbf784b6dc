# SPDX-License-Identifier: Apache-2.0
"""The attackers' tool kit, and the system they attack."""
