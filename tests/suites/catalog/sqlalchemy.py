"""SQLAlchemy's own tests: the dialect suite and PostgreSQL's dialect, once with psycopg and once with asyncpg."""

from pathlib import Path

from tests.harness.postgres import Cluster
from tests.suites.outcomes import Outcomes, read_junit
from tests.suites.sources import Sdist, environment
from tests.suites.suite import Place, Suite, Way

SDIST = Sdist(
    name="sqlalchemy", version="2.1.9", sha256="d700a8b2edfb26282a470333d6bc4a454c4acda4d201a3bea7b72fa76c217d28"
)
_REQUIREMENTS = (
    f"sqlalchemy[asyncio]=={SDIST.version}",
    "psycopg[binary]==3.3.9",
    "asyncpg==0.32.0",
    "pytest==9.2.0",
)
DATABASE = "test"
FILES = ("test/dialect/test_suite.py", "test/dialect/postgresql")
_SCHEMAS = ("test_schema", "test_schema_2")


def _run(driver: str, place: Place, way: Way) -> Outcomes:
    report = place.scratch / "junit.xml"
    address = f"postgresql+{driver}://{way.user}@{way.host}:{way.port}/{DATABASE}"
    command: list[str | Path] = [place.python, "-m", "pytest", *FILES, "-p", "no:cacheprovider", "--maxfail=100000"]
    variables = {**way.environment(), "PYTHONDONTWRITEBYTECODE": "1"}
    place.run([*command, "--dburi", address, f"--junitxml={report}"], place.source, variables)
    return read_junit([report])


def _prepare(cluster: Cluster) -> None:
    """As README.unittests.rst has it, and a collation that a minimal machine does not have."""
    cluster.psql("".join(f"CREATE SCHEMA {name};" for name in _SCHEMAS), database=DATABASE)
    cluster.psql(f"ALTER DATABASE {DATABASE} SET default_text_search_config = 'pg_catalog.english'")
    cluster.psql("CREATE EXTENSION hstore; CREATE EXTENSION citext", database=DATABASE)
    cluster.psql("CREATE COLLATION IF NOT EXISTS \"en_US\" (locale = 'C')", database=DATABASE)


def _suite(driver: str) -> Suite:
    return Suite(
        name=f"sqlalchemy-{driver}",
        about=f"the dialect suite and the PostgreSQL dialect, over {driver}",
        version=SDIST.version,
        fetch=lambda: (SDIST.unpacked(), environment("sqlalchemy", _REQUIREMENTS)),
        run=lambda place, way: _run(driver, place, way),
        databases=(DATABASE,),
        settings={"max_prepared_transactions": "10"},
        prepare=_prepare,
    )


SUITES = tuple(_suite(driver) for driver in ("psycopg", "asyncpg"))
