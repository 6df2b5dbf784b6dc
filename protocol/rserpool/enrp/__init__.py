# SPDX-License-Identifier: Apache-2.0
"""ENRP as a state machine: a registrar among registrars (RFC 5353).

``registrar`` is the whole machine, the ASAP side included. ``peers`` knows the other registrars, ``startup`` learns
the handlespace from one of them, ``tables`` serves it to others, ``resync`` audits what each of them owns,
``takeover`` inherits from the dead, ``ownership`` settles who owns an element.
"""

from rserpool.enrp.registrar import Registrar

__all__ = ["Registrar"]
