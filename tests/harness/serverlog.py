"""Reading what PostgreSQL itself logged (csvlog), to hold it against what Curfew recorded. Never writes."""

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.harness.postgres import Cluster
from tests.harness.waiting import eventually

# https://www.postgresql.org/docs/current/runtime-config-logging.html#RUNTIME-CONFIG-LOGGING-CSVLOG
_USER, _DATABASE, _PID, _FROM, _SESSION = 1, 2, 3, 4, 5
_COMMAND, _SEVERITY, _SQLSTATE, _MESSAGE, _DETAIL, _CONTEXT, _QUERY, _APPLICATION = 7, 11, 12, 13, 14, 18, 19, 22
_STATEMENT = "statement: "
_EXECUTE = "execute "
_PARAMETER = re.compile(r"\$\d+ = (?:NULL|'((?:[^']|'')*)')")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One entry of the server's log."""

    pid: int
    session: str
    """The backend's start, in whole seconds, and its pid, both hexadecimal: no two backends' ids are the same."""
    user: str
    database: str
    severity: str
    sqlstate: str
    message: str
    detail: str
    command: str
    """What the backend was at: a command tag, or PARSE or BIND."""
    context: str
    query: str
    """The SQL that an error is of."""
    application: str
    local: bool
    """Whether the client came over the unix socket."""

    @property
    def statement(self) -> str | None:
        """The SQL, where the entry says that a statement is being executed (simple or extended)."""
        if self.message.startswith(_STATEMENT):
            return self.message.removeprefix(_STATEMENT)
        if self.message.startswith(_EXECUTE):
            return self.message.partition(": ")[2]
        return None

    @property
    def parameters(self) -> tuple[str | None, ...]:
        """The bound values as text, where the entry is of an Execute."""
        found = _PARAMETER.finditer(self.detail if self.message.startswith(_EXECUTE) else "")
        return tuple(None if one[1] is None else one[1].replace("''", "'") for one in found)


def read_log(cluster: Cluster) -> list[LogLine]:
    """Every entry so far of a Cluster made with `log_statements`. A last line still being written is left out."""
    with (cluster.data / "log" / "postgresql.csv").open(errors="replace", newline="") as file:
        return [*entries(file)]


def entries(lines: Iterable[str]) -> Iterator[LogLine]:
    """The entries of a csvlog in these lines. A last one that is cut is left out."""
    return (_entry(row) for row in csv.reader(lines) if len(row) > _APPLICATION)


def statements(cluster: Cluster, *, user: str = "", database: str = "") -> list[str]:
    """The SQL of every statement executed, in order, by `user` and in `database` where given."""
    wanted = (line for line in read_log(cluster) if user in ("", line.user) and database in ("", line.database))
    return [sql for line in wanted if (sql := line.statement) is not None]


async def connections(cluster: Cluster) -> int:
    """How many connections the server has ever accepted (it logs them: `log_connections`), this one's own included."""
    marker = f"SELECT 'after connection {len(read_log(cluster))}'"
    await cluster.sql(marker)

    def logged() -> int:
        lines = read_log(cluster)
        seen = any(line.statement is not None and marker in line.statement for line in lines)
        return sum(line.message.startswith("connection received") for line in lines) if seen else 0

    return await eventually(logged)


def _entry(row: list[str]) -> LogLine:
    return LogLine(
        pid=int(row[_PID] or 0),
        session=row[_SESSION],
        user=row[_USER],
        database=row[_DATABASE],
        severity=row[_SEVERITY],
        sqlstate=row[_SQLSTATE],
        message=row[_MESSAGE],
        detail=row[_DETAIL],
        command=row[_COMMAND],
        context=row[_CONTEXT],
        query=row[_QUERY],
        application=row[_APPLICATION],
        local=row[_FROM] == "[local]",
    )
