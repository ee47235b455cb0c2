"""Disks that are soon full (a file system in memory, of any size; mounting takes root), slow, or failing."""

import asyncio
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(place: Path, size_bytes: int) -> Iterator[Path]:
    """One at `place`; the test is skipped where none can be mounted."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot mount a small tmpfs here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


class Disk:
    """Takes as long for a sync as the test wants, and fails where it wants that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = threading.Semaphore(0)
        self.let = threading.Semaphore(0)
        self.syncs = 0
        self.error: OSError | None = None
        self._real = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self._sync)

    def _sync(self, file: int) -> None:
        self.syncs += 1
        self.asked.release()
        assert self.let.acquire(timeout=10)
        if self.error is not None:
            raise self.error
        self._real(file)

    async def is_asked(self) -> None:
        """A sync has begun."""
        assert await asyncio.to_thread(self.asked.acquire, timeout=10)
