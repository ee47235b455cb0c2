"""pgx's own tests, which its module on Go's proxy has in it: a program for each package, run where its files are."""

import base64
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.harness.postgres import Cluster
from tests.suites.outcomes import Outcome, Status
from tests.suites.sources import CannotFetchError, Pinned, command, made
from tests.suites.suite import Place, Suite, Way

BUILD_S = 1_800.0
_FLAGS = {"GOTOOLCHAIN": "local", "GOFLAGS": "-modcacherw -mod=readonly", "GOSUMDB": "off", "GOWORK": "off"}
"""Of what is fetched, the sum is compared here, and those of what it needs are in its own go.sum."""
_RUN_S = 1_800
_READER = "test2json"
_SAID_CHARACTERS = 3_000
_TEMPORARY = re.compile(r"(/tmp/Test[A-Za-z]+)\d+")
_STATUS: Mapping[str, Status] = {"pass": "passed", "fail": "failed", "skip": "skipped"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GoModule(Pinned):
    """A module on Go's proxy. `sha256` is what go.sum has of it behind `h1:`, in hexadecimal."""

    module: str

    def download(self, folder: Path) -> None:
        """As Pinned, by go."""
        _need_go()
        with tempfile.TemporaryDirectory(prefix="curfew-go-") as scratch:
            said = command(
                "go",
                "mod",
                "download",
                "-json",
                f"{self.module}@v{self.version}",
                folder=Path(scratch),
                variables={**_FLAGS, "GOPATH": scratch},
            )
            found = json.loads(said)
            wanted = "h1:" + base64.b64encode(bytes.fromhex(self.sha256)).decode()
            if found["Sum"] != wanted:
                raise CannotFetchError(f"{self.module} has the sum {found['Sum']}, not {wanted}")
            shutil.copytree(found["Dir"], folder / "module")


def _need_go() -> None:
    if shutil.which("go") is None:
        raise CannotFetchError("there is no go: Go 1.25 or newer (go.dev/dl)")


MODULE = GoModule(
    name="pgx",
    module="github.com/jackc/pgx/v5",
    version="5.12.0",
    sha256="856c1ac7c622193d1888de74535a080e7e64811eca0b6b46deb99abf0a4f9316",
)
PACKAGES = (".", "pgconn", "pgtype", "pgtype/zeronull", "pgxpool", "stdlib", "multitracer", "tracelog")
_DATABASE = "pgx_test"


def _compiled() -> Path:
    """The folder with a program for each package, and one that reads what they say."""
    _need_go()
    version = command("go", "env", "GOVERSION").strip()

    def build(folder: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="curfew-go-") as scratch:
            own = {**_FLAGS, "GOPATH": str(Path(scratch) / "path"), "GOCACHE": str(Path(scratch) / "cache")}
            tree = MODULE.unpacked() / "module"
            for source, program in [*((f"./{one}", _program(one)) for one in PACKAGES), ("cmd/test2json", _READER)]:
                how = ["build"] if program == _READER else ["test", "-c", "-vet=off"]
                command("go", *how, "-o", folder / program, source, folder=tree, variables=own, within_s=BUILD_S)

    return made(f"{MODULE.name}-{MODULE.version}-{version}", build)


def _program(package: str) -> str:
    return f"{package.replace('/', '-').strip('.') or 'main'}.test"


def _run(place: Place, way: Way) -> dict[str, Outcome]:
    """The programs one after the other, each where its package's files are."""
    tree = place.scratch / "module"
    shutil.copytree(place.source / "module", tree)
    variables = {**way.environment(), **_variables(way), "HOME": str(place.scratch)}
    found: dict[str, Outcome] = {}
    for package in PACKAGES:
        flags = ["-test.v=test2json", f"-test.timeout={_RUN_S}s", "-test.paniconexit0"]
        ran = place.run([place.python / _READER, place.python / _program(package), *flags], tree / package, variables)
        found |= {f"{package}::{name}": one for name, one in read_events(ran.output.splitlines()).items()}
    return found


def _variables(way: Way) -> dict[str, str]:
    """What its tests connect by; without what libpq would have, which its fake servers do not know.

    Its roles with other methods of authentication are left out: there is one person.
    """
    where = f"host={way.host} port={way.port} user={way.user} dbname={_DATABASE}"
    where += f" sslmode=verify-full sslrootcert={way.ca_file}"
    names = ("PGX_TEST_DATABASE", "PGX_TEST_TCP_CONN_STRING", "PGX_TEST_TLS_CONN_STRING")
    return {**dict.fromkeys(names, where), "PGSSLMODE": "", "PGSSLROOTCERT": ""}


def _prepare(cluster: Cluster) -> None:
    """testsetup/postgresql_setup.sql."""
    cluster.psql("CREATE EXTENSION hstore; CREATE EXTENSION ltree", database=_DATABASE)
    cluster.psql("CREATE DOMAIN uint64 AS numeric(20,0)", database=_DATABASE)
    cluster.psql("""CREATE USER " tricky, ' } "" \\ test user " SUPERUSER PASSWORD 'secret'""")


def read_events(lines: Sequence[str]) -> dict[str, Outcome]:
    """The outcomes in what test2json prints; a test that broke off (a panic, the end of its time) has failed.

    Some are named after a temporary folder of this run.
    """
    said: dict[str, list[str]] = {}
    ended: dict[str, Status] = {}
    for event in _events(lines):
        test = _TEMPORARY.sub(r"\1", event.get("Test", ""))
        if not test:
            continue
        said.setdefault(test, [])
        if event["Action"] == "output":
            said[test].append(event["Output"])
        elif event["Action"] in _STATUS:
            ended[test] = _STATUS[event["Action"]]
    return {
        test: Outcome(status=status, said="" if status == "passed" else "".join(said[test])[-_SAID_CHARACTERS:])
        for test in said
        for status in [ended.get(test, "failed")]
    }


def _events(lines: Sequence[str]) -> Iterator[dict[str, str]]:
    for line in lines:
        if line.startswith("{"):
            yield json.loads(line)


SUITE = Suite(
    name="pgx",
    about="the driver's own tests, in Go: binary values, pipelines, COPY, its pool, database/sql",
    version=MODULE.version,
    fetch=lambda: (MODULE.unpacked(), _compiled()),
    run=_run,
    databases=(_DATABASE,),
    prepare=_prepare,
)
