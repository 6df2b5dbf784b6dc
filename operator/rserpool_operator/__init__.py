# SPDX-License-Identifier: Apache-2.0
"""The operator: from ServerPools to registrars, sidecars, identities and an honest status.

``watch`` (kopf) says that something may have changed, ``queue`` which pool is looked at next, ``observe`` reads what
there is into a frozen ``Observed``, ``plan`` decides without any I/O what to do, ``carry_out`` does it. ``server`` is
what pods and the API server ask: ``enrolment``, ``control`` and ``admission``, each with one pure decision.
"""
