# SPDX-License-Identifier: Apache-2.0
"""The element's load, for the load-adaptive policies (RFC 5356 3.1, 5): measured, smoothed, told to the registrars.

``section`` is its configuration, ``governor`` decides when a load is worth a registration, ``cpu`` and ``asking`` are
where it comes from, ``measuring`` keeps all that going. What a sidecar of another policy does not need is not loaded.
"""
