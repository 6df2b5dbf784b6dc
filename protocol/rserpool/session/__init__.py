# SPDX-License-Identifier: Apache-2.0
"""Control channel and data of a pool user and a pool element, multiplexed on one connection (threat 2.16).

No RFC maps RFC 5352's control channel to TCP; this is the project's own mapping (docs/control-channel.md). No I/O, no
clock, no TLS. Modules: ``frames`` cuts the stream, ``cookies`` seals what an element wants back, ``element`` is the
element's end of a connection; what is the pool user's lies beside them.
"""
