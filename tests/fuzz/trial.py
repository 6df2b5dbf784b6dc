# SPDX-License-Identifier: Apache-2.0
"""One input at one target: what it may do, and what is a fault.

A fault is an exception other than those the reader documents, more time or more memory than one input is worth, or a
contradiction that the target itself has found (an ``AssertionError``).
"""

from __future__ import annotations

import hashlib
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
CORPUS: Final = HERE / "corpus"
"""Inputs that found something new, a folder for each target."""
REGRESSIONS: Final = HERE / "regressions"
"""Inputs that were faults once, a folder for each target."""
SECONDS: Final = 2.0
"""Of the processor that one input may take; the slowest good one takes a tenth."""

Read = Callable[[bytes], None]


class FaultError(Exception):
    """An input that does what none may do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Something that reads.

    Attributes:
        name: of its folder in corpus and regressions.
        open: a reader, for as long as the context lasts.
        refuses: what it raises for what it does not take, as its documentation says.
        seeds: inputs that it takes.
        longest: octets of an input.
        octets: of memory that one input may cost while it is read.
    """

    name: str
    open: Callable[[], AbstractContextManager[Read]]
    refuses: tuple[type[Exception], ...] = ()
    seeds: Callable[[], Iterable[bytes]]
    longest: int = 4096
    octets: int = 2 * 1024 * 1024

    def inputs(self) -> Iterator[bytes]:
        """Everything that is kept about it: seeds, corpus, regressions."""
        yield from self.seeds()
        for folder in (CORPUS / self.name, REGRESSIONS / self.name):
            yield from (path.read_bytes() for path in sorted(folder.glob("*")))


def always(read: Read) -> Callable[[], AbstractContextManager[Read]]:
    """A reader that needs nothing around it."""

    @contextmanager
    def opened() -> Iterator[Read]:
        yield read

    return opened


def attempt(target: Target, read: Read, octets: bytes, *, weigh: bool) -> bool:
    """Have one input read; returns whether it was taken.

    Args:
        target: whose reader it is.
        read: the reader.
        octets: the input.
        weigh: measure its memory, too, which makes it slow.

    Raises:
        FaultError: it does what none may do.
    """
    if weigh:
        tracemalloc.start()
    begun = time.process_time()
    try:
        read(octets)
        taken = True
    except target.refuses:
        taken = False
    except Exception as e:
        raise FaultError(f"{target.name}: {type(e).__name__}: {e}") from e
    finally:
        peak = tracemalloc.get_traced_memory()[1] if weigh else 0
        took = time.process_time() - begun
        if weigh:
            tracemalloc.stop()
    if peak > target.octets:
        raise FaultError(
            f"{target.name}: {peak} octets of memory for an input of {len(octets)}, {target.octets} at most"
        )
    if took > SECONDS * (20 if weigh else 1):
        raise FaultError(f"{target.name}: {took:.1f} s of the processor for an input of {len(octets)} octets")
    return taken


def keep(octets: bytes, folder: Path) -> Path:
    """Write an input to a file that is named after its contents."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(octets).hexdigest()[:16]
    path.write_bytes(octets)
    return path
