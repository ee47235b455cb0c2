"""The ways to the bench's database that are held against each other: what a client has to know of each.

Starts nothing (see `tests.bench.stand`) and measures nothing (see `tests.bench.cases`).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DIRECT, PGBOUNCER, CURFEW = "direct", "pgbouncer", "curfew"
HOST = "127.0.0.1"
_USER_TIME, _SYSTEM_TIME = 11, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to the database."""

    name: str
    port: int
    user: str
    password: str
    database: str
    authority: Path
    """The CA file that a client over TLS trusts."""
    pid: int | None = None
    """The process in between, where there is one."""

    def environment(self, *, tls: bool) -> Mapping[str, str]:
        """What libpq reads. Clear text is asked for where it is meant, so that no way falls into TLS by itself."""
        verified = {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(self.authority)}
        return {
            "PGHOST": HOST,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGDATABASE": self.database,
            "PGGSSENCMODE": "disable",
            **(verified if tls else {"PGSSLMODE": "disable"}),
        }

    def cpu_seconds(self) -> float | None:
        """The CPU time that the process in between has used so far; None where there is none."""
        return None if self.pid is None else cpu_seconds(self.pid)


def cpu_seconds(pid: int) -> float | None:
    """The CPU time that a process has used so far; None where there is no /proc (proc(5))."""
    path = Path(f"/proc/{pid}/stat")
    if not path.exists():
        return None
    # Counted from behind the command's name, which may hold anything but ends at the last bracket.
    fields = path.read_text().rpartition(") ")[2].split()
    return (int(fields[_USER_TIME]) + int(fields[_SYSTEM_TIME])) / os.sysconf("SC_CLK_TCK")
