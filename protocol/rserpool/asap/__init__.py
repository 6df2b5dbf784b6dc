# SPDX-License-Identifier: Apache-2.0
"""ASAP as state machines: input and time in, effects out (RFC 5352).

``element`` is the pool element's machine, ``user`` the pool user's, ``hunt`` what both do to find a registrar;
``server`` holds the registrar's duties towards them. ``effects``, ``events``, ``authorisation``, ``timers``,
``limits``, ``profiles`` and ``machine`` are what all machines, those of ENRP too, are made of.
"""
