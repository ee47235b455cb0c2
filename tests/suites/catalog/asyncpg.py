"""asyncpg's own tests, from its source distribution, with the released wheel of the same version."""

import shutil
from pathlib import Path

from tests.suites.outcomes import Outcomes, read_junit
from tests.suites.sources import Sdist, environment
from tests.suites.suite import Place, Suite, Way

SDIST = Sdist(
    name="asyncpg", version="0.32.0", sha256="45e64e56714d888330b884aad1dfb363d0bf43fb343e3d1a8968525f3bade478"
)
_REQUIREMENTS = (f"asyncpg=={SDIST.version}", "pytest==9.2.0", "uvloop==0.23.0", "distro==1.9.0")
DATABASE = "postgres"
MADE = ("testdb", "asyncpg_intro_test")
"""Databases that its tests make, connect to and drop."""
NOT_OF_THE_SERVER = ("test__sourcecode.py",)
"""Its linters, on files that are not in the distribution."""


def run(place: Place, way: Way, *chosen: str) -> Outcomes:
    """Run what these arguments of pytest's choose, or everything."""
    shutil.copytree(place.source / "tests", place.scratch / "tests")  # apart from the distribution's unbuilt asyncpg
    for name in NOT_OF_THE_SERVER:
        (place.scratch / "tests" / name).unlink()
    report = place.scratch / "junit.xml"
    command: list[str | Path] = [place.python, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-c", "/dev/null"]
    command += [f"--rootdir={place.scratch}", f"--junitxml={report}", *(chosen or ["tests"])]
    place.run(command, place.scratch, {**way.environment(), "PGDATABASE": DATABASE})
    return read_junit([report])


SUITE = Suite(
    name="asyncpg",
    about="the driver's own tests",
    version=SDIST.version,
    fetch=lambda: (SDIST.unpacked(), environment("asyncpg", _REQUIREMENTS)),
    run=run,
    databases=(DATABASE, *MADE),
    makes=MADE,
)
