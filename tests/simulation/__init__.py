# SPDX-License-Identifier: Apache-2.0
"""The simulator: the very machines of the daemons in a world of one process, and what must hold there whatever happens.

From the inside to the outside: :mod:`~simulation.clock` (virtual time), :mod:`~simulation.network` (packets, kernels,
associations), :mod:`~simulation.nodes` (a host with one process), :mod:`~simulation.world` (building, faults),
:mod:`~simulation.script` and :mod:`~simulation.generate` (what happens, as data), :mod:`~simulation.invariants` (what
must hold), :mod:`~simulation.run` (a verdict), :mod:`~simulation.shrink` and :mod:`~simulation.replay` (a short script
that shows the failure of a seed).
"""
