"""The failing layer below a proxy's journal: `failing.c`, compiled at need, and the word that tells it what to do."""

import ctypes
import errno
import mmap
import os
import random
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("failing.c")
SYNCED = ".synced"
"""What the layer adds to a segment's name to note how long it was when it was synced."""
FAIL_WRITE, SHORT_WRITE, TORN_WRITE, FAIL_SYNC, FOR_EVER = 1, 2, 4, 8, 16
"""As `failing.c` has them. A short write is as the kernel does it; a torn one cannot be taken back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One thing that the layer does."""

    name: str
    what: int
    error: int = errno.EIO


FAILURES = (
    Failure(name="write", what=FAIL_WRITE | FOR_EVER),
    Failure(name="one write", what=FAIL_WRITE),
    Failure(name="torn write", what=TORN_WRITE),
    Failure(name="sync", what=FAIL_SYNC),
)
"""Each keeps the journal shut until the proxy is started again."""
SYNC = FAILURES[-1]
SHORT = Failure(name="short write", what=SHORT_WRITE)
"""No failure yet: the rest is to be written with the next call."""
FULL = Failure(name="full", what=FAIL_WRITE | FOR_EVER, error=errno.ENOSPC)
"""A full disk, where no small one can be made."""


class _Orders(ctypes.Structure):
    _fields_ = (("what", ctypes.c_int), ("after", ctypes.c_int), ("error", ctypes.c_int), ("fired", ctypes.c_int))


class Layer:
    """What the processes with `environment` stand on."""

    def __init__(self, folder: Path, library: Path) -> None:
        file = folder / "failing"
        file.write_bytes(bytes(ctypes.sizeof(_Orders)))
        with file.open("r+b") as opened:
            self._mapped = mmap.mmap(opened.fileno(), 0)
        self._orders = _Orders.from_buffer(self._mapped)
        self.environment = {"LD_PRELOAD": str(library), "CURFEW_FAILING": str(file)}

    def fail(self, failure: Failure, *, after: int = 0) -> None:
        """Have it happen from the call on that comes `after` so many."""
        self._orders.fired = 0
        self._orders.after = after
        self._orders.error = failure.error
        self._orders.what = failure.what

    def heal(self) -> None:
        """Have all go well. What was torn stays torn: its process has to end."""
        self._orders.what = 0

    @property
    def fired(self) -> int:
        """How many calls have failed since `fail`."""
        return int(self._orders.fired)


def lose_power(state: Path, *, everything: bool = False) -> None:
    """Do what the machine's death does to the journals below `state`: of what was not synced, some or all is gone.

    With `everything` it is all of it, always.
    """
    for segment in state.glob("**/*.ndjson"):
        note = segment.with_name(segment.name + SYNCED)
        synced = int(note.read_text()) if note.exists() else 0
        written = segment.stat().st_size
        left = synced if everything else random.choice((synced, random.randint(min(synced, written), written)))
        os.truncate(segment, left)


def build(folder: Path) -> Path | None:
    """The library; None where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = folder / "failing.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library
