# SPDX-License-Identifier: Apache-2.0
"""`rserpool up`: the pool of a ServerPool manifest on one machine, as real processes over mutual TLS.

``command`` is the command line, ``loopback`` finds addresses nobody else uses, ``plan`` decides which processes there
are and how each is configured, ``enrolment`` gives them their identities, ``supervisor`` runs them, ``state`` tells
other commands about them, ``session`` is all of it from start to end.
"""
