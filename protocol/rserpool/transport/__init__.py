# SPDX-License-Identifier: Apache-2.0
"""Associations over real networks, in the shape SCTP gave them.

``base`` is the interface: an association with its peer's addresses, message boundaries, send failure and restart.
``tcp`` fills it over TCP, plain or with TLS, ``memory`` in one process; ``stream`` is what TCP and HTTP share,
``tls`` the TLS engine, ``security`` who a peer is and what contexts are in force, ``half_open`` bounds what strangers
cost. ``driver`` carries out a machine's effects. ``http`` serves and asks over the same streams.
"""
