"""A clock that can be set for one process alone: libfaketime, loaded into it, follows a file.

The library is the system's, else Debian's package, unpacked into `.cache/` of the checkout; nothing is installed. Only
the wall clock is set. The monotonic one goes on as it is, for that is how a machine behaves whose time is corrected.
(`time.sleep` fails in such a process: the library (0.9.10) takes its absolute monotonic time for a wall-clock one.)
"""

import functools
import shutil
import subprocess
from pathlib import Path

_CACHE = Path(__file__).resolve().parents[2] / ".cache" / "faketime"
_NAME = "libfaketime.so.1"
_FETCH_S = 60.0


@functools.cache
def library() -> Path | None:
    """The library, None where there is none to be had."""
    found = _find(Path("/usr/lib")) or _find(_CACHE)
    if found is None and shutil.which("apt-get") and shutil.which("dpkg"):
        _unpack()
        found = _find(_CACHE)
    return found


class Clock:
    """The wall clock of the processes that are started with `environment`."""

    def __init__(self, folder: Path, loaded: Path) -> None:
        self._file = folder / "clock"
        self._loaded = loaded
        self.set(0)

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process heed it."""
        return {
            "LD_PRELOAD": str(self._loaded),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, ahead_s: int) -> None:
        """Have it go so many seconds ahead of the true time from now on, or behind."""
        written = self._file.with_suffix(".new")
        written.write_text(f"{ahead_s:+d}\n")
        written.replace(self._file)


def _find(place: Path) -> Path | None:
    return next(iter(sorted(place.glob(f"**/faketime/{_NAME}"))), None)


def _unpack() -> None:
    """Best effort: without the package, the clock is not tried."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    fetch = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", "libfaketime"]
    subprocess.run(fetch, cwd=_CACHE, check=False, capture_output=True, timeout=_FETCH_S)
    for package in _CACHE.glob("libfaketime_*.deb"):
        subprocess.run(["dpkg", "-x", str(package), str(_CACHE)], check=False, capture_output=True, timeout=_FETCH_S)
