"""Django's own tests of its database backends and of django.contrib.postgres, over psycopg."""

from pathlib import Path

from tests.suites.outcomes import Outcomes, read_junit
from tests.suites.sources import Sdist, environment
from tests.suites.suite import Place, Suite, Way

SDIST = Sdist(
    name="django", version="5.2.19", sha256="ad03d8abc51dbff95ebf34b27123cf0c26a3b62db7ba0cd520783686362533d1"
)
_REQUIREMENTS = (
    f"django=={SDIST.version}",
    "psycopg[binary,pool]==3.3.9",
    "unittest-xml-reporting==4.0.0",
    "tzdata",
    "Pillow",
    "jinja2",
    "PyYAML",
    "tblib",
)
LABELS = ("backends", "postgres_tests")
DATABASES = ("django", "django2")
_MODULE = "curfew_settings"
_SETTINGS = """
DATABASES = {{
    alias: {{
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": {user!r},
        "HOST": {host!r},
        "PORT": {port!r},
        "TEST": {{"NAME": "test_" + name}},
    }}
    for alias, name in (("default", "django"), ("other", "django2"))
}}
SECRET_KEY = "of a test"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
TEST_RUNNER = "xmlrunner.extra.djangotestrunner.XMLTestRunner"
TEST_OUTPUT_DIR = {folder!r}
TEST_OUTPUT_FILE_NAME = "junit.xml"
TEST_OUTPUT_VERBOSE = 2
"""
"""No PASSWORD: libpq takes the one of each database from the passfile. Otherwise as tests/test_sqlite.py has it."""


def _run(place: Place, way: Way) -> Outcomes:
    text = _SETTINGS.format(user=way.user, host=way.host, port=way.port, folder=str(place.scratch))
    (place.scratch / f"{_MODULE}.py").write_text(text)
    command: list[str | Path] = [place.python, "runtests.py", *LABELS, f"--settings={_MODULE}", "--parallel=1"]
    variables = {**way.environment(), "PYTHONPATH": str(place.scratch), "PYTHONDONTWRITEBYTECODE": "1"}
    place.run([*command, "--noinput", "--verbosity=2"], place.source / "tests", variables)
    return read_junit(place.scratch.glob("*.xml"))


SUITE = Suite(
    name="django",
    about=f"runtests.py {' '.join(LABELS)}, over psycopg",
    version=SDIST.version,
    fetch=lambda: (SDIST.unpacked(), environment("django", _REQUIREMENTS)),
    run=_run,
    databases=("postgres", *DATABASES, *(f"test_{name}" for name in DATABASES)),
    makes=tuple(f"test_{name}" for name in DATABASES),
)
