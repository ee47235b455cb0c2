"""The board: memory that a proxy's workers share, where each shows how many connections it has.

They go by it when a connection waits to be accepted: whoever has the fewest takes it at once, and the others only when
it still waits a moment later. (The kernel would wake whoever asked last, again and again; SO_REUSEPORT would deal by a
hash, and eight connections seldom fall four and four.) A number may be out of date; nothing worse than a less even
deal comes of it.
"""

import mmap
import os

AWAY = 2**64 - 1
"""Shown by a worker that accepts nothing: it starts, drains, or is dead."""
_NUMBER_BYTES = 8


class Board:
    """Maps the memory behind a descriptor."""

    def __init__(self, descriptor: int, workers: int) -> None:
        """Raises OSError."""
        self._memory = mmap.mmap(descriptor, workers * _NUMBER_BYTES)
        self._numbers = memoryview(self._memory).cast("Q")

    def show(self, worker: int, connections: int) -> None:
        """Worker `worker`, counted from 1, has so many."""
        self._numbers[worker - 1] = connections

    def accepts(self, worker: int) -> bool:
        """Whether it accepts connections."""
        return self._numbers[worker - 1] != AWAY

    def has_fewest(self, worker: int) -> bool:
        """Whether no other worker that accepts connections has fewer."""
        return self._numbers[worker - 1] <= min(self._numbers)

    def close(self) -> None:
        """Unmap it."""
        self._numbers.release()
        self._memory.close()


def create(workers: int) -> int:
    """The descriptor of a new board, on which everybody is away. Raises OSError."""
    descriptor = os.memfd_create("curfew-board", os.MFD_CLOEXEC)
    os.write(descriptor, AWAY.to_bytes(_NUMBER_BYTES) * workers)
    return descriptor
