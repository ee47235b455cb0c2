"""Limits that hold over all workers of a proxy: slots, each held by one process at most, and free once it is dead.

A slot is a byte of one file that nobody ever writes: to hold it is to hold its record lock (fcntl(2), F_SETLK), which
the kernel gives to one process alone and takes back when that process ends, however it ends. Within a process there is
nothing to lock against, so the slots it holds are noted here as well.
"""

import contextlib
import fcntl
import hashlib
import os
from pathlib import Path

from proxy import files

FILE = "slots"
_GROUP_BITS = 24
"""Slots of one group; the groups are told apart by the 38 bits above (file offsets have 63)."""


class Slots:
    """The slots as one process sees them. Open one for each process: closing another would give all locks back."""

    def __init__(self, home: Path) -> None:
        """Raises OSError."""
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(home / FILE, os.O_RDWR | os.O_CREAT, files.PRIVATE)
        self._held: set[int] = set()

    def take(self, group: str, limit: int) -> int | None:
        """One of the group's first `limit` slots; None where all are held, or where the kernel gives out no locks."""
        digest = hashlib.sha256(group.encode()).digest()
        first = (int.from_bytes(digest[:5]) >> 2) << _GROUP_BITS
        for slot in range(first, first + min(limit, 1 << _GROUP_BITS)):
            if slot in self._held:
                continue
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
            except (BlockingIOError, PermissionError):  # EAGAIN or EACCES: another process has it
                continue
            except OSError:
                return None
            self._held.add(slot)
            return slot
        return None

    def give_back(self, slot: int) -> None:
        """The slot is free again."""
        self._held.discard(slot)
        with contextlib.suppress(OSError):  # no memory to split a range of locks: the others see it held for longer
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, slot)

    def close(self) -> None:
        """Give everything back."""
        self._held.clear()
        os.close(self._file)
