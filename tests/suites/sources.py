"""Fetching suites: source distributions from PyPI, by their hash, and an environment of its own for each suite.

Everything is kept in `.cache/suites/` of the checkout; nothing else on the machine is changed.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "suites"
FETCH_S = 300.0
_STAMP = "complete"


class CannotFetchError(Exception):
    """What the registry, or its client, said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """An archive of one version, known by its hash. Whoever has a `download` fetches and unpacks it into a folder."""

    name: str
    version: str
    sha256: str

    def unpacked(self) -> Path:
        """The folder that it was unpacked into."""
        return made(f"{self.name}-{self.version}-{self.sha256[:12]}", self.download)

    def download(self, folder: Path) -> None:
        """Fetch it into `folder`. Raises CannotFetchError."""
        raise NotImplementedError


class Tree(Pinned):
    """One that has everything in a folder of its own."""

    __slots__ = ()

    def unpacked(self) -> Path:
        """That folder."""
        return next(path for path in super().unpacked().iterdir() if path.is_dir())


class Sdist(Tree):
    """A source distribution on PyPI."""

    __slots__ = ()

    def download(self, folder: Path) -> None:
        """As Pinned, by pip."""
        wanted = folder / "requirements.txt"  # pip takes hashes from a file alone, and then insists on them
        wanted.write_text(f"{self.name}=={self.version} --hash=sha256:{self.sha256}\n")
        pip: list[str | Path] = [
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--no-binary",
            ":all:",
            "--dest",
            folder,
            "-r",
            wanted,
        ]
        command(sys.executable, "-m", *pip)
        archive = next(folder.glob("*.tar.gz"))
        check(archive, self.sha256)
        unpack(archive, folder)
        archive.unlink()


def environment(name: str, requirements: Sequence[str]) -> Path:
    """The interpreter of a virtual environment with exactly these requirements, and what they bring."""
    digest = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:12]

    def build(folder: Path) -> None:
        command(sys.executable, "-m", "venv", folder / "venv")
        command(folder / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet", *requirements)

    return made(f"{name}-python-{digest}", build) / "venv" / "bin" / "python"


def made(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of this name in the cache; `make` fills it where it is not there whole yet."""
    place = CACHE / name
    with _lock(name):
        if not (place / _STAMP).exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            make(place)
            (place / _STAMP).touch()
    return place


@contextmanager
def _lock(name: str) -> Iterator[None]:
    """Two runs may want the same thing at once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def check(file: Path, sha256: str) -> None:
    """Raise CannotFetchError where `file` is not what was pinned."""
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != sha256:
        raise CannotFetchError(f"{file.name} has SHA-256 {found}, not {sha256}: it is not what was reviewed")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar file below `folder`."""
    with tarfile.open(archive) as tar:
        # The safe way where there is one: before 3.11.4 `extractall` knows no `filter`.
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        tar.extractall(folder)


def command(
    *arguments: str | Path,
    folder: Path | None = None,
    variables: Mapping[str, str] | None = None,
    within_s: float = FETCH_S,
) -> str:
    """What a command prints, both streams. Raises CannotFetchError."""
    try:
        done = subprocess.run(
            [str(argument) for argument in arguments],
            cwd=folder,
            env={**os.environ, **(variables or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=within_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotFetchError(str(error)) from error
    if done.returncode != 0:
        raise CannotFetchError(f"{arguments[0]} gave {done.returncode}:\n{done.stdout[-3_000:]}")
    return done.stdout
