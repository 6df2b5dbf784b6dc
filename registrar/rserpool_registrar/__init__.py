# SPDX-License-Identifier: Apache-2.0
"""The registrar daemon (ENRP server): interprets the machine of :mod:`rserpool.enrp`, nothing else."""
