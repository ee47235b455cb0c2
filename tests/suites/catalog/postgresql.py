"""PostgreSQL's own tests, from its source: pg_regress, isolationtester and libpq_pipeline.

The drivers are those that come with Debian's clients; the two things that must be compiled are, against the headers of
Debian's development package. They want the installed PostgreSQL to be of the same major version.
"""

import re
import shutil
from pathlib import Path

from tests.harness.binaries import postgresql_bin
from tests.oracle.stand import major_version
from tests.suites import sources
from tests.suites.debian import BinaryPackage, SourcePackage
from tests.suites.outcomes import Outcome, Outcomes
from tests.suites.sources import CannotFetchError, made
from tests.suites.suite import Place, Suite, Way

MAJOR = 15
SOURCE = SourcePackage(
    name="postgresql-15",
    version="15.18-0+deb12u1",
    sha256="11df0df97fe3ea4ba9a791faaf39cee1d2fe571e78885b5b55d8517d27c323b4",
)
HEADERS = BinaryPackage(
    name="postgresql-server-dev-15",
    version="15.18-0+deb12u1",
    sha256="95cbf539ffef3bb3922cae4193a61778ed014f126855e123bdbd2b267bb371c5",
)
_VERSION = SOURCE.version.partition("-")[0]
_LINE = re.compile(r"^(?:test| {4}) +(\S+) +\.\.\. (ok|FAILED|failed \(ignored\))", re.MULTILINE)
_DIFF = re.compile(r"^diff .*/results/(\S+)\.out\n", re.MULTILINE)
_PIPELINE_ROWS = "700"
_TRACED = (
    "simple_pipeline",
    "nosync",
    "multi_pipelines",
    "prepared",
    "singlerow",
    "pipeline_abort",
    "pipeline_idle",
    "transaction",
    "disallowed_in_pipeline",
)
"""Those whose trace t/001_libpq_pipeline.pl compares."""


def _libraries() -> Path:
    """Where the installed PostgreSQL keeps its libraries, pg_regress among them."""
    return postgresql_bin().parent / "lib"


def _driver(name: str, folder: str) -> Path:
    return _libraries() / "pgxs" / "src" / "test" / folder / name


def _fetch() -> tuple[Path, Path]:
    """The source, and the folder with what was compiled."""
    if (found := major_version(postgresql_bin())) != MAJOR:
        raise CannotFetchError(f"the tests are PostgreSQL {MAJOR}'s, and {found} is installed: set PG_BIN")
    if not _driver("pg_regress", "regress").exists():
        raise CannotFetchError(
            f"there is no pg_regress below {_libraries()}: apt-get install postgresql-client-{MAJOR}"
        )
    source = SOURCE.unpacked()
    return source, made(f"postgresql-{SOURCE.version}-compiled", lambda folder: _compile(source, folder))


def _compile(source: Path, folder: Path) -> None:
    dev = HEADERS.unpacked() / "usr"
    server = f"-I{dev / 'include' / 'postgresql' / str(MAJOR) / 'server'}"
    tests = source / "src" / "test"
    sources.command(
        "gcc", "-O1", "-w", "-fPIC", "-shared", server, "-o", folder / "regress.so", tests / "regress" / "regress.c"
    )
    client = [f"-I{sources.command('pg_config', '--includedir').strip()}"]
    libraries: list[str | Path] = [
        "-L",
        dev / "lib" / "postgresql" / str(MAJOR) / "lib",
        "-lpq",
        "-lpgcommon",
        "-lpgport",
    ]
    program = tests / "modules" / "libpq_pipeline" / "libpq_pipeline.c"
    sources.command("gcc", "-O1", "-w", server, *client, "-o", folder / "libpq_pipeline", program, *libraries)
    for name in ("refint.so", "autoinc.so"):  # contrib's, which the triggers' tests use
        shutil.copy(_libraries() / name, folder)


def _by_schedule(name: str, about: str, *, program: str, schedule: str, database: str) -> Suite:
    """One of pg_regress's kind."""
    return Suite(
        name=name,
        about=about,
        version=_VERSION,
        fetch=_fetch,
        run=lambda place, way: _regress(place, way, folder=name, program=program, schedule=schedule),
        databases=("postgres", database),
        makes=(database,),
        settings={"max_prepared_transactions": "10", "wal_level": "logical"},
    )


def _regress(place: Place, way: Way, *, folder: str, program: str, schedule: str) -> Outcomes:
    """Run it on its schedule; what it makes is in a folder that the server may write to."""
    tests = place.scratch / folder
    shutil.copytree(place.source / "src" / "test" / folder, tests)
    (tests / "results").mkdir()
    (tests / "results").chmod(0o777)
    libraries = place.scratch / "lib"
    shutil.copytree(place.python, libraries)
    options = {
        "host": way.host,
        "port": way.port,
        "user": way.user,
        "bindir": postgresql_bin(),
        "inputdir": tests,
        "outputdir": tests,
        "dlpath": libraries,
        "schedule": tests / schedule,
        "max-concurrent-tests": 20,
    }
    command: list[str | Path] = [_driver(program, folder), *(f"--{name}={value}" for name, value in options.items())]
    return _read(place.run(command, tests, way.environment()).output, tests)


def _read(output: str, tests: Path) -> dict[str, Outcome]:
    """Each script's outcome; a failed one's difference from what PostgreSQL expects must be the same on both ways."""
    diffs = tests / "regression.diffs"
    parts = _DIFF.split(diffs.read_text(errors="replace")) if diffs.exists() else [""]
    said = dict(zip(parts[1::2], parts[2::2], strict=True))
    found = {}
    for name, result in _LINE.findall(output):
        shown = "\n".join(line for line in said.get(name, "").splitlines() if not line.startswith(("---", "+++")))
        found[name] = Outcome(status="passed" if result == "ok" else "failed", said=shown[:8_000], shown=shown)
    return found


def _pipeline(place: Place, way: Way) -> Outcomes:
    """libpq_pipeline's tests, as its Perl script runs them, with the trace of every message for most."""
    program = place.python / "libpq_pipeline"
    expected = place.source / "src" / "test" / "modules" / "libpq_pipeline" / "traces"
    found = {}
    for name in sources.command(program, "tests").split():
        trace = place.scratch / f"{name}.trace"
        options = ["-t", str(trace)] if name in _TRACED else []
        conninfo = "dbname=postgres"
        arguments: list[str | Path] = [program, "-r", _PIPELINE_ROWS, *options, name, conninfo]
        ran = place.run(arguments, place.scratch, way.environment())
        found[name] = Outcome(status="passed" if ran.status == 0 else "failed", said=ran.output)
        reference = expected / f"{name}.trace"
        if options and reference.exists():
            same = trace.read_text() == reference.read_text()
            found[f"{name} trace"] = Outcome(status="passed" if same else "failed", shown=trace.read_text())
    return found


SUITES = (
    _by_schedule(
        "regress",
        "pg_regress on its parallel schedule, by psql",
        program="pg_regress",
        schedule="parallel_schedule",
        database="regression",
    ),
    _by_schedule(
        "isolation",
        "isolationtester on its schedule: several sessions that wait for each other",
        program="pg_isolation_regress",
        schedule="isolation_schedule",
        database="isolation_regression",
    ),
    Suite(
        name="libpq-pipeline",
        about="libpq's pipeline mode, with a trace of every message",
        version=_VERSION,
        fetch=_fetch,
        run=_pipeline,
    ),
)
