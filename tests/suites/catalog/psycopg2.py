"""psycopg2's own tests, from its source distribution, replication among them; psycopg 3's has none."""

import shutil
from pathlib import Path

from tests.harness.postgres import Cluster
from tests.suites.outcomes import Outcomes, read_junit
from tests.suites.sources import Sdist, environment
from tests.suites.suite import Place, Suite, Way

SDIST = Sdist(
    name="psycopg2", version="2.9.11", sha256="964d31caf728e217c697ff77ea69c2ba0865fa41ec20bb00f0977e62fdcc52e3"
)
_REQUIREMENTS = (f"psycopg2-binary=={SDIST.version}", "pytest==9.2.0")
DATABASE = "psycopg2_test"


def _run(place: Place, way: Way) -> Outcomes:
    shutil.copytree(place.source / "tests", place.scratch / "tests")
    report = place.scratch / "junit.xml"
    command: list[str | Path] = [place.python, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-c", "/dev/null"]
    command += [f"--rootdir={place.scratch}", f"--junitxml={report}", "tests"]
    variables = {
        "PSYCOPG2_TESTDB": DATABASE,
        "PSYCOPG2_TESTDB_HOST": way.host,
        "PSYCOPG2_TESTDB_PORT": str(way.port),
        "PSYCOPG2_TESTDB_USER": way.user,
        "PSYCOPG2_TEST_REPL_DSN": f"dbname={DATABASE}",
    }
    place.run(command, place.scratch, {**way.environment(), **variables})
    return read_junit([report])


def _prepare(cluster: Cluster) -> None:
    cluster.psql("CREATE EXTENSION hstore", database=DATABASE)


SUITE = Suite(
    name="psycopg2",
    about="the driver's own tests, with libpq 17, two-phase commit and replication",
    version=SDIST.version,
    fetch=lambda: (SDIST.unpacked(), environment("psycopg2", _REQUIREMENTS)),
    run=_run,
    databases=(DATABASE,),
    settings={"max_prepared_transactions": "10", "wal_level": "logical", "max_wal_senders": "10"},
    replication=True,
    prepare=_prepare,
)
