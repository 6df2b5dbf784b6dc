# SPDX-License-Identifier: Apache-2.0
"""Reliable Server Pooling (RFC 5351 to 5356), secured as the RSerPool threats document asks.

The packages are rings, each of which may use those before it: ``wire``, ``handlespace``, ``asap``, ``enrp``,
``identity``, ``pool``, ``authority``, ``transport``, ``client``, ``daemon``.
"""

__version__ = "0.1.0"
