"""Replication slots that a session has left behind. Pure.

A slot outlives its session and keeps the write-ahead log that nobody has fetched, and PostgreSQL does not say whose it
is: only the session's records do. Read here are the commands of replication connections ("Streaming Replication
Protocol"); a slot that SQL made (`pg_create_physical_replication_slot` and its kin) is a statement like any other.
"""

import re

from proxy.contract.record import StatementEnd, StatementStart

MOST = 1_000
"""How many are kept in mind: more than any server has (max_replication_slots)."""
_COMMAND = re.compile(
    r'\s*(?P<verb>CREATE|DROP)_REPLICATION_SLOT\s+("(?P<quoted>[^"]{1,63})"|(?P<plain>\w{1,63}))(?P<temporary>\s+TEMPORARY\b)?',
    re.IGNORECASE | re.ASCII,
)


class Slots:
    """One session's: `take` each statement in order."""

    def __init__(self) -> None:
        self._left: dict[str, None] = {}

    def take(self, start: StatementStart, end: StatementEnd | None) -> None:
        """Note what the statement did. One that never ended may have done it."""
        command = _COMMAND.match(start.sql)
        if command is None or (end is not None and (end.sqlstate is not None or end.skipped)):
            return
        name = command["quoted"] or command["plain"]
        if command["verb"].upper() == "CREATE":
            if command["temporary"] is None and len(self._left) < MOST:
                self._left[name] = None
        elif end is not None:
            self._left.pop(name, None)

    @property
    def left(self) -> list[str]:
        """The names of those that are left, in the order in which they were made."""
        return list(self._left)
