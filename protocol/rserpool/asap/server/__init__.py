# SPDX-License-Identifier: Apache-2.0
"""A registrar's duties towards pool elements and pool users (RFC 5352 3).

``front`` reads what comes in and hands it to ``registration``, ``resolution``, ``liveness`` and ``reports``; they
change the handlespace through ``membership`` only, which tells everybody concerned.
"""
