# SPDX-License-Identifier: Apache-2.0
"""Fuzzing of all that reads octets of a stranger, from the network or from a file: `make fuzz`."""
