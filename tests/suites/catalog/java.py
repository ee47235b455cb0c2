"""pgjdbc's own tests, from the source archive that Maven Central has beside the driver, run by Maven's surefire."""

import shutil
import tempfile
from pathlib import Path

from tests.suites.outcomes import Outcomes, read_junit
from tests.suites.sources import CannotFetchError, Tree, check, command, made, unpack
from tests.suites.suite import Place, Suite, Way

FETCH_S = 900.0
_GET = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:get"
_GROUP = "org.postgresql:postgresql"
_SUREFIRE = "-Dmaven-surefire-plugin.version=3.5.3"
"""The version in its pom.xml does not know the version of JUnit in its pom.xml."""
_DATABASE = "test"
_ONE_WITHOUT_A_SERVER = "PGtokenizerTest"
"""Run once so that Maven has all that running needs."""


class SourceArchive(Tree):
    """What Maven Central has of the driver's source. Not every version has it."""

    __slots__ = ()

    def download(self, folder: Path) -> None:
        """As Pinned, by Maven."""
        with tempfile.TemporaryDirectory(prefix="curfew-maven-") as scratch:
            artifact = f"-Dartifact={_GROUP}:{self.version}:tar.gz:jdbc-src"
            _maven(Path(scratch), folder, _GET, artifact, "-Dtransitive=false")
            archive = next(Path(scratch).rglob("*-jdbc-src.tar.gz"))
            check(archive, self.sha256)
            unpack(archive, folder)


SOURCE = SourceArchive(
    name="pgjdbc", version="42.7.7", sha256="216e8ff44559bf1094f671c43d71f65863bff381fa8e0ec6934da5d59f5a112e"
)


def _maven(repository: Path, folder: Path, *arguments: str) -> None:
    if shutil.which("mvn") is None or shutil.which("javac") is None:
        raise CannotFetchError("there is no Maven, or no JDK: apt-get install default-jdk maven")
    command("mvn", "-B", "-q", f"-Dmaven.repo.local={repository}", *arguments, folder=folder, within_s=FETCH_S)


def _compiled() -> Path:
    """The folder with the compiled tree, and with the repository that Maven runs it from."""

    def build(folder: Path) -> None:
        tree = folder / "tree"
        shutil.copytree(SOURCE.unpacked(), tree)
        _maven(folder / "repository", tree, "test", _SUREFIRE, f"-Dtest={_ONE_WITHOUT_A_SERVER}")
        shutil.rmtree(tree / "target" / "surefire-reports")

    return made(f"pgjdbc-{SOURCE.version}-compiled", build)


def _run(place: Place, way: Way) -> Outcomes:
    tree = place.scratch / "tree"
    shutil.copytree(place.python / "tree", tree)
    (tree / "build.local.properties").write_text(_properties(way))
    repository = f"-Dmaven.repo.local={place.python / 'repository'}"
    goals = ["surefire:test", _SUREFIRE, "-Dmaven.test.failure.ignore=true", "-DreuseForks=true"]
    place.run(["mvn", "-B", "-o", repository, *goals], tree, way.environment())
    return read_junit(sorted((tree / "target" / "surefire-reports").glob("*.xml")))


def _properties(way: Way) -> str:
    """Its tests' own file. The password is the one of the database: a token where the way is through Curfew."""
    lines = way.pass_file.read_text().splitlines()
    password = next(line.split(":", 4)[4] for line in lines if f":{_DATABASE}:" in line).replace("\\:", ":")
    return "\n".join(
        f"{name}={value}"
        for name, value in {
            "test.url.PGHOST": way.host,
            "test.url.PGPORT": way.port,
            "test.url.PGDBNAME": _DATABASE,
            "test.url.sslmode": "verify-full",
            "test.url.sslrootcert": way.ca_file,
            "user": way.user,
            "password": password,
            "privilegedUser": way.user,
            "privilegedPassword": password,
        }.items()
    )


SUITE = Suite(
    name="pgjdbc",
    about="the driver's own tests, in Java: replication, two-phase commit, function calls, large objects",
    version=SOURCE.version,
    fetch=lambda: (SOURCE.unpacked(), _compiled()),
    run=_run,
    databases=(_DATABASE,),
    settings={"max_prepared_transactions": "64", "wal_level": "logical", "max_wal_senders": "10"},
    replication=True,
)
