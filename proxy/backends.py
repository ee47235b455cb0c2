"""What the keeper asks PostgreSQL about backends, and what it tells them: the SQL of the verified stop.

Owns the statements and what their answers mean. Every name is qualified with pg_catalog, so that nobody's search_path
counts. Keeps no state and catches no error (see `proxy.stop`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from proxy.query import Connection, Row, array

Fate: TypeAlias = Literal["committed", "aborted"]

_KNOWN_FATES: Mapping[str | None, Fate] = {"committed": "committed", "aborted": "aborted"}
_XID_EPOCH = 1 << 32

_STARTS = """
SELECT pid, backend_start FROM pg_catalog.pg_stat_activity WHERE pid = ANY ($1::pg_catalog.int4[])
"""

# pg_stat_activity is read whole, transaction ids included, before the first row comes out and a signal is sent. The row
# is matched by pid alone, and the start is compared here and by the caller: a start that we have no right to see is
# NULL, which must not look like a backend that is gone.
_SIGHT = """
SELECT activity.pid, activity.backend_start, activity.backend_xid,
       CASE WHEN activity.backend_xid IS NOT NULL
            THEN pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::pg_catalog.text END AS next_xid,
       CASE WHEN asked.signal AND activity.backend_start = asked.started
            THEN pg_catalog.pg_terminate_backend(activity.pid) END AS signalled
FROM ROWS FROM (
         pg_catalog.unnest($1::pg_catalog.int4[]),
         pg_catalog.unnest($2::pg_catalog.timestamptz[]),
         pg_catalog.unnest($3::pg_catalog.bool[])
     ) WITH ORDINALITY AS asked (pid, started, signal, number)
     LEFT JOIN pg_catalog.pg_stat_activity AS activity ON activity.pid = asked.pid
ORDER BY asked.number
"""

_FATES = """
SELECT pg_catalog.pg_xact_status(asked.xid::pg_catalog.xid8) AS fate
FROM pg_catalog.unnest($1::pg_catalog.text[]) WITH ORDINALITY AS asked (xid, number)
ORDER BY asked.number
"""

_OWN_RIGHTS = """
SELECT rolsuper,
       pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') AS may_see,
       pg_catalog.pg_has_role('pg_signal_backend', 'USAGE') AS may_signal
FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER
"""

_USERS = """
SELECT rolname, rolsuper, pg_catalog.pg_has_role(oid, 'USAGE') AS ours
FROM pg_catalog.pg_roles WHERE rolname = ANY ($1::pg_catalog.text[])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A backend to look for, by pid and start, and whether to send it SIGTERM if it is there."""

    pid: int
    started: datetime
    signal: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """Who has the pid."""

    started: datetime | None
    """None where we have no right to see it."""
    xid: int | None
    """The id of its transaction with the epoch, if it has one."""


async def starts(connection: Connection, pids: Sequence[int], *, timeout_s: float) -> dict[int, datetime | None]:
    """When each backend started, None where we have no right to see it. Who is not there is left out."""
    rows = await connection.fetch(_STARTS, array(pids), timeout_s=timeout_s)
    return {_integer(pid): _time(started) for pid, started in rows}


async def sight(connection: Connection, wanted: Sequence[Wanted], *, timeout_s: float) -> list[Sighting | None]:
    """Look for each backend and, in the same statement, terminate where asked. None: nobody has the pid."""
    pids, starts = array(one.pid for one in wanted), array(one.started for one in wanted)
    rows = await connection.fetch(_SIGHT, pids, starts, array(one.signal for one in wanted), timeout_s=timeout_s)
    return [_sighting(row) for row in rows]


def _sighting(row: Row) -> Sighting | None:
    pid, started, xid, next_xid, _ = row
    if pid is None:
        return None
    return Sighting(started=_time(started), xid=None if next_xid is None else widen(_integer(xid), _integer(next_xid)))


def _integer(text: str | None) -> int:
    if text is None:
        raise ValueError("no number")
    return int(text)


def _time(text: str | None) -> datetime | None:
    """A timestamptz, as `query.SETTINGS` have it written."""
    return None if text is None else datetime.fromisoformat(text)


def widen(xid: int, near: int) -> int:
    """The full transaction id whose low 32 bits are `xid`: the one nearest to the full id `near`.

    A running transaction's id is within 2^31 of the newest one, before it or, as a snapshot's xmax counts completed
    transactions only, behind it. https://www.postgresql.org/docs/current/transaction-id.html
    """
    return near + (xid - near + _XID_EPOCH // 2) % _XID_EPOCH - _XID_EPOCH // 2


async def fates(connection: Connection, xids: Sequence[int], *, timeout_s: float) -> list[Fate | None]:
    """What became of each transaction. None: not over (prepared, then), or too old to be known."""
    rows = await connection.fetch(_FATES, array(xids), timeout_s=timeout_s)
    return [_KNOWN_FATES.get(fate) for (fate,) in rows]


async def shortcomings(connection: Connection, users: Sequence[str], *, timeout_s: float) -> list[str]:
    """What the keeper's login lacks to see and end the backends of `users`, one sentence each with its remedy."""
    ((superuser, may_see, may_signal),) = map(_truths, await connection.fetch(_OWN_RIGHTS, timeout_s=timeout_s))
    rows = await connection.fetch(_USERS, array(users), timeout_s=timeout_s)
    known = {name: _truths(rights) for name, *rights in rows}
    lacks = []
    if not may_see:
        lacks.append("it cannot see other logins' backends: GRANT pg_read_all_stats TO it")
    for user in users:
        if user not in known:
            lacks.append(f"the login {user!r} of an access profile does not exist")
            continue
        its_a_superuser, ours = known[user]
        if its_a_superuser and not superuser:
            lacks.append(f"it cannot end backends of {user!r}, a superuser: only a superuser can")
        elif not may_signal and not ours:
            lacks.append(f"it cannot end backends of {user!r}: GRANT pg_signal_backend TO it")
    return lacks


def _truths(columns: Iterable[str | None]) -> list[bool]:
    return [column == "t" for column in columns]
