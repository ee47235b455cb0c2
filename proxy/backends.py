"""What the keeper asks PostgreSQL about backends, and what it tells them: the SQL of the verified stop.

Owns the statements and what their answers mean. Every name is qualified with pg_catalog, so that nobody's search_path
counts. Keeps no state and catches no error (see `proxy.stop`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from proxy.query import Connection, Row, array

Fate: TypeAlias = Literal["committed", "aborted"]

_KNOWN_FATES: Mapping[str | None, Fate] = {"committed": "committed", "aborted": "aborted"}
_XID_EPOCH = 1 << 32

# Who may end whom is what pg_signal_backend() in PostgreSQL's source goes by, from 14 to 18: the role that the backend
# was logged in as, whatever it has become since. A role that is dropped is no superuser.
_SEEN = """
SELECT activity.pid, activity.backend_start, activity.usename, activity.datname,
       pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - activity.backend_start) AS age,
       own.rolsuper OR (theirs.rolsuper IS NOT TRUE AND (own.may_signal OR
           pg_catalog.pg_has_role(activity.usesysid, 'USAGE') IS TRUE)) AS endable
FROM pg_catalog.pg_stat_activity AS activity
     LEFT JOIN pg_catalog.pg_roles AS theirs ON theirs.oid = activity.usesysid
     CROSS JOIN (SELECT rolsuper, pg_catalog.pg_has_role('pg_signal_backend', 'USAGE') AS may_signal
                 FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER) AS own
WHERE activity.pid = ANY ($1::pg_catalog.int4[])
"""

# pg_stat_activity is read whole, transaction ids included, before the first row comes out and a signal is sent. The row
# is matched by pid alone, and the start is compared here and by the caller: a start that we have no right to see is
# NULL, which must not look like a backend that is gone.
_SIGHT = """
{held}SELECT activity.pid, activity.backend_start, activity.backend_xid,
       CASE WHEN activity.backend_xid IS NOT NULL
            THEN pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::pg_catalog.text END AS next_xid,
       {marked} AS marked,
       CASE WHEN asked.signal AND activity.backend_start = asked.started AND {marked}
            THEN pg_catalog.pg_terminate_backend(activity.pid) END AS signalled
FROM ROWS FROM (
         pg_catalog.unnest($1::pg_catalog.int4[]),
         pg_catalog.unnest($2::pg_catalog.timestamptz[]),
         pg_catalog.unnest($3::pg_catalog.bool[]){marks}
     ) WITH ORDINALITY AS asked (pid, started, signal{mark}, number)
     LEFT JOIN pg_catalog.pg_stat_activity AS activity ON activity.pid = asked.pid
ORDER BY asked.number
"""
_SIGHT_PLAIN = _SIGHT.format(held="", marked="true", marks="", mark="")
# How an advisory lock with one 64-bit key stands in pg_locks:
# https://www.postgresql.org/docs/current/view-pg-locks.html
_SIGHT_MARKED = _SIGHT.format(
    held="""WITH held AS MATERIALIZED (
    SELECT pid, classid, objid FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted
)
""",
    marked="""(asked.mark IS NULL OR EXISTS (
           SELECT FROM held WHERE held.pid = asked.pid
                 AND held.classid = ((asked.mark >> 32) & 4294967295)::pg_catalog.oid
                 AND held.objid = (asked.mark & 4294967295)::pg_catalog.oid))""",
    marks=",\n         pg_catalog.unnest($4::pg_catalog.int8[])",
    mark=", mark",
)

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
class Seen:
    """Who has a pid."""

    started: str
    """ISO 8601 with microseconds and UTC offset. With the pid it is the backend's identity."""
    user: str | None
    """The login; None for some of the server's own processes, and so for the database."""
    database: str | None
    age_s: float
    """Since its start, by the server's own clock."""
    endable: bool
    """Whether the keeper may end it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What the keeper's login may do, in sentences that say what is missing and the remedy."""

    lacks: tuple[str, ...] = ()
    unendable: Mapping[str, str] = field(default_factory=dict)
    """The logins whose backends it cannot end, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A backend to look for, by pid and start, and whether to send it SIGTERM if it is there."""

    pid: int
    started: datetime
    signal: bool
    mark: int | None = None
    """The advisory lock that it must hold to get the signal, where a pooler may have given it to somebody else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """Who has the pid."""

    started: datetime | None
    """None where we have no right to see it."""
    xid: int | None
    """The id of its transaction with the epoch, if it has one."""
    marked: bool
    """It holds the lock that was asked about; true where none was."""


async def seen(connection: Connection, pids: Sequence[int], *, timeout_s: float) -> dict[int, Seen | None]:
    """Each backend, None where we have no right to see it. Who is not there is left out."""
    rows = await connection.fetch(_SEEN, array(pids), timeout_s=timeout_s)
    return {_integer(row[0]): _seen(row) for row in rows}


def _seen(row: Row) -> Seen | None:
    _, started, user, database, age_s, endable = row
    if (at := _time(started)) is None:
        return None
    start = at.astimezone(UTC).isoformat(timespec="microseconds")
    return Seen(started=start, user=user, database=database, age_s=float(age_s or 0), endable=endable == "t")


async def sight(connection: Connection, wanted: Sequence[Wanted], *, timeout_s: float) -> list[Sighting | None]:
    """Look for each backend and, in the same statement, terminate where asked. None: nobody has the pid."""
    pids, starts = array(one.pid for one in wanted), array(one.started for one in wanted)
    signals = array(one.signal for one in wanted)
    if all(one.mark is None for one in wanted):
        rows = await connection.fetch(_SIGHT_PLAIN, pids, starts, signals, timeout_s=timeout_s)
    else:
        marks = array(one.mark for one in wanted)
        rows = await connection.fetch(_SIGHT_MARKED, pids, starts, signals, marks, timeout_s=timeout_s)
    return [_sighting(row) for row in rows]


def _sighting(row: Row) -> Sighting | None:
    pid, started, xid, next_xid, marked, _ = row
    if pid is None:
        return None
    full = None if next_xid is None else widen(_integer(xid), _integer(next_xid))
    return Sighting(started=_time(started), xid=full, marked=marked == "t")


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


async def rights(connection: Connection, users: Sequence[str], *, timeout_s: float) -> Rights:
    """What the keeper's login lacks to see and end the backends of `users`."""
    ((superuser, may_see, may_signal),) = map(_truths, await connection.fetch(_OWN_RIGHTS, timeout_s=timeout_s))
    rows = await connection.fetch(_USERS, array(users), timeout_s=timeout_s)
    known = {name: _truths(theirs) for name, *theirs in rows}
    lacks = [] if may_see else ["it cannot see other logins' backends: GRANT pg_read_all_stats TO it"]
    unendable: dict[str, str] = {}
    for user in users:
        its_a_superuser, ours = known.get(user, (False, True))
        if user not in known:
            lacks.append(f"the login {user!r} of an access profile does not exist")
        elif its_a_superuser and not superuser:
            unendable[user] = f"it cannot end backends of {user!r}, a superuser: only a superuser can"
        elif not superuser and not may_signal and not ours:
            unendable[user] = f"it cannot end backends of {user!r}: GRANT pg_signal_backend TO it"
    return Rights(lacks=tuple(lacks), unendable=unendable)


def _truths(columns: Iterable[str | None]) -> list[bool]:
    return [column == "t" for column in columns]
