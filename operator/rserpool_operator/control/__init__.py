# SPDX-License-Identifier: Apache-2.0
"""The control channel's near end.

``board`` holds what each pool's processes are told and have said; ``desk`` serves it. Only the leader does.
"""
