"""What a re-execution is shown on: a database behind a proxy, a clone of it, and the command.

`Stand.clone` restores a dump of the database as it is now under another name. What is done through the proxy after
that, `Stand.rerun` does to the clone; `Stand.dumps` are then to be equal.
"""

import itertools
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.contract import proof
from proxy.contract.record import SessionEnd, decode
from proxy.identity import load_or_create
from tests.harness import roles
from tests.harness.binaries import postgresql_bin
from tests.harness.postgres import Cluster
from tests.harness.processes import run
from tests.harness.proxy import Proxy
from tests.harness.waiting import eventually_sync

ACCESS = {
    "app": {
        "user": roles.APP.user,
        "password": {"command": ["echo", roles.APP.password]},
        "copy_data": "in",
    }
}
"""A profile that has on record what COPY takes."""
REPOSITORY = Path(__file__).resolve().parents[2]
RERUN_S = 600.0
_RESTRICT = re.compile(r"^\\(un)?restrict .*\n", re.MULTILINE)
"""A key that is another one in each dump."""
_ROWS = re.compile(r"(?<=FROM stdin;\n)(.*?)(?=^\\\.$)", re.MULTILINE | re.DOTALL)
_numbers = itertools.count(1)


@dataclass(kw_only=True)
class Stand:
    """`database` on `cluster`, which `proxy` leads to; what the command needs is put into `folder`."""

    cluster: Cluster
    proxy: Proxy
    database: str
    folder: Path
    clone_name: str = field(init=False)

    def __post_init__(self) -> None:
        """The clone's name is its own: the command takes no database that is called as the session's was."""
        self.clone_name = f"{self.database}_clone_{next(_numbers)}"

    @property
    def way(self) -> str:
        """The database's name for a client of the proxy."""
        return f"orders/{self.database}"

    def clone(self) -> None:
        """Make the clone, from a dump of what there is now."""
        roles.create_database(self.cluster, self.clone_name)
        dump = self.dump(self.database)
        self.program("psql", "-Xqv", "ON_ERROR_STOP=1", "-d", self.clone_name, text=dump)

    def close(self) -> None:
        """Drop the clone."""
        roles.drop_database(self.cluster, self.clone_name)

    def direct(self, database: str) -> dict[str, str]:
        """The environment of a program that goes to PostgreSQL itself, as the profile's login."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return own | {
            "PGHOST": self.cluster.host,
            "PGHOSTADDR": "127.0.0.1",
            "PGPORT": str(self.cluster.port),
            "PGUSER": roles.APP.user,
            "PGPASSWORD": roles.APP.password,
            "PGDATABASE": database,
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": str(self.cluster.authority.file),
        }

    def program(self, name: str, *arguments: str, text: str = "", database: str = "") -> str:
        """What one of PostgreSQL's programs prints, run past the proxy."""
        environment = self.direct(database or self.database)
        return run([postgresql_bin() / name, *arguments], environment=environment, text=text, within=RERUN_S).stdout

    def through(self, name: str, *arguments: str, text: str = "") -> str:
        """What it prints, run through the proxy."""
        environment = self.proxy.psql_env(PGDATABASE=self.way)
        return run([postgresql_bin() / name, *arguments], environment=environment, text=text, within=RERUN_S).stdout

    def dump(self, database: str) -> str:
        """A dump without what is another one each time."""
        return _RESTRICT.sub("", self.program("pg_dump", "-d", database))

    def dumps(self) -> tuple[str, str]:
        """Both databases, each table's rows sorted: where they lie in it is not their content."""
        return _sorted(self.dump(self.database)), _sorted(self.dump(self.clone_name))

    # The records.

    def mark(self) -> set[str]:
        """The sessions so far."""
        return set(self.proxy.sessions())

    def recorded(self, before: set[str], *, name: str = "records.ndjson") -> Path:
        """A file with the sessions since then, once all have ended."""

        def ended() -> list[bytes]:
            sessions = {one: lines for one, lines in self.proxy.sessions().items() if one not in before}
            over = [isinstance(decode(lines[-1]), SessionEnd) for lines in sessions.values()]
            return [line for lines in sessions.values() for line in lines] if over and all(over) else []

        lines = eventually_sync(ended, within=30)
        file = self.folder / name
        file.write_bytes(b"".join(line + b"\n" for line in lines))
        return file

    def command(self, records: Path, *options: str) -> subprocess.CompletedProcess[str]:
        """`curfew replay RECORDS --against` the clone."""
        key = proof.public_text(load_or_create(self.proxy.state).public_key())
        arguments = ["replay", str(records), "--against", "postgresql://", "--proxy-key", key, *options]
        environment = self.direct(self.clone_name) | {"PYTHONPATH": str(REPOSITORY), "HOME": str(self.folder)}
        return subprocess.run(
            [sys.executable, "-m", "control.client.cli", *arguments],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=RERUN_S,
            check=False,
        )

    def rerun(self, records: Path, *options: str) -> dict[str, Any]:
        """What the command says of it, as JSON."""
        done = self.command(records, "--yes", "--json", *options)
        assert done.stdout, done.stderr
        said: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == (0 if said["equal"] else 1), done.stderr
        return said


def _sorted(dump: str) -> str:
    return _ROWS.sub(lambda found: "".join(sorted(found[0].splitlines(keepends=True))), dump)
