# SPDX-License-Identifier: Apache-2.0
"""The element's side of the control channel (docs/control-channel.md): loaded only where the pool has one.

``section`` is its configuration, ``relay`` the listener and all connections, ``connection`` one of them, ``streams``
its two ends, ``local`` what the application is offered on a loopback address, ``cards`` where business cards come from.
"""
