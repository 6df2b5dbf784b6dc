# SPDX-License-Identifier: Apache-2.0
"""The commands on a cluster. They speak to it through `kubectl`, so contexts and logins are the user's own.

Nothing here is imported before a cluster is asked: the same program runs beside registrars, where memory is short.
"""
