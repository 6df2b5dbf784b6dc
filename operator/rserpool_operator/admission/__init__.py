# SPDX-License-Identifier: Apache-2.0
"""What happens to a pod when it is created: ``injection`` gives members their sidecar, ``usage`` pool users their pool.

Both are pure; ``desk`` serves them to the API server.
"""
