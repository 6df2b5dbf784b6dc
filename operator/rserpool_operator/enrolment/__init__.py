# SPDX-License-Identifier: Apache-2.0
"""Who is given a certificate.

``decision`` is one pure function, ``facts`` reads what it decides on, ``desk`` serves.
"""
