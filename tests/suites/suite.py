"""What a suite is, and what it is given: a folder of its own, a Python of its own, and a way to PostgreSQL.

Each module of `catalog` makes one; `runner` runs it. Nothing is fetched or run here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.harness.postgres import Cluster
from tests.suites.outcomes import Outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How to connect: straight to a PostgreSQL, or to another one of the same making through Curfew."""

    name: Literal["direct", "curfew"]
    host: str
    port: int
    user: str
    ca_file: Path
    pass_file: Path
    """A password for each database, as libpq has it: at Curfew a token of a grant of its own."""

    def environment(self) -> dict[str, str]:
        """What libpq and its like read. There is no PGPASSWORD: each database's is in the passfile."""
        return {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSFILE": str(self.pass_file),
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": str(self.ca_file),
            "PGOPTIONS": "",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A command that has ended."""

    status: int
    output: str
    """Both streams."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one run of a suite takes place."""

    source: Path
    """What was fetched, unpacked. Shared by all runs: not to be written to."""
    python: Path
    """The suite's own interpreter, with what it needs; the folder of what was compiled where it is not in Python."""
    scratch: Path
    """An empty folder of this run's own."""
    run: Callable[[Sequence[str | Path], Path, Mapping[str, str]], Ran]
    """Runs a command in a folder with these variables, and shows how it gets on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A suite by others."""

    name: str
    about: str
    version: str
    fetch: Callable[[], tuple[Path, Path]]
    """Gets what it needs, once: `Place.source` and `Place.python`. Raises CannotFetchError."""
    run: Callable[[Place, Way], Outcomes]
    """Runs it on one way, from its beginning to its end."""
    databases: Sequence[str] = ("postgres",)
    """What its clients connect to. Those that PostgreSQL does not come with are made, unless it makes them itself."""
    makes: Sequence[str] = ()
    """Those of `databases` that the suite makes (and may drop)."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Lines of postgresql.conf."""
    replication: bool = False
    """Whether the grant allows replication connections."""
    prepare: Callable[[Cluster], None] = lambda _: None
    """What its instructions say that a server must have."""
