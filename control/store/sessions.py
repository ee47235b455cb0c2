"""Queries: sessions' summaries."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from control.domain.sessions import Session, State
from control.store.engine import Transaction
from control.store.records import IN_ONE_QUERY
from control.store.tables import sessions


def topic(session_id: str) -> str:
    """What the end of the session is announced as."""
    return f"session:{session_id}"


def growth(session_id: str) -> str:
    """What new records of the session are announced as."""
    return f"records:{session_id}"


UNLISTED = (State.REFUSED, State.REAPED, State.TORN)
"""What is not listed where no state is wanted: records that are no sessions.

Said by what is left out: by what is listed SQLite would look it up by state, and sort all that there ever was.
"""
MOST_OPEN = 10_000
"""Open sessions of silent proxies that are looked at in one go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which sessions are wanted. None does not narrow; without a state, refused connections are left out."""

    person: str | None = None
    target: str | None = None
    profile: str | None = None
    proxy: str | None = None
    grant: str | None = None
    state: State | None = None

    def narrowed(self) -> dict[str, str]:
        """The columns that have to have a value, by name, and the values."""
        columns = {name: getattr(self, name) for name in ("person", "target", "profile", "proxy", "grant")}
        return {name: value for name, value in columns.items() if value is not None}


def _session(row: sa.Row[tuple[object, ...]]) -> Session:
    values = dict(row._mapping)  # noqa: SLF001 SQLAlchemy's public name for it (a row's own names could clash)
    del values["number"]
    return Session(**values | {"state": State(row.state)})


def _values(session: Session) -> dict[str, object]:
    return {name: getattr(session, name) for name in Session.__slots__}  # what `asdict` copies is text and numbers


async def find(tx: Transaction, session_id: str) -> tuple[int, Session] | None:
    """The session with this id, and its number."""
    row = (await tx.connection.execute(sa.select(sessions).where(sessions.c.id == session_id))).first()
    return None if row is None else (row.number, _session(row))


async def state(tx: Transaction, number: int) -> State:
    """Where the session with this number stands."""
    row = (await tx.connection.execute(sa.select(sessions.c.state).where(sessions.c.number == number))).one()
    return State(row.state)


async def find_all(tx: Transaction, session_ids: Iterable[str]) -> Mapping[str, tuple[int, Session]]:
    """Those of the sessions that are known, by id, with their numbers."""
    wanted, found = list(session_ids), {}
    for start in range(0, len(wanted), IN_ONE_QUERY):
        query = sa.select(sessions).where(sessions.c.id.in_(wanted[start : start + IN_ONE_QUERY]))
        for row in await tx.connection.execute(query):
            found[row.id] = (row.number, _session(row))
    return found


async def by_number(tx: Transaction, numbers: Iterable[int]) -> Mapping[int, Session]:
    """The sessions with these numbers."""
    wanted: list[int] = list(numbers)
    found: dict[int, Session] = {}
    for start in range(0, len(wanted), IN_ONE_QUERY):
        query = sa.select(sessions).where(sessions.c.number.in_(wanted[start : start + IN_ONE_QUERY]))
        found |= {row.number: _session(row) for row in await tx.connection.execute(query)}
    return found


async def add(tx: Transaction, session: Session) -> int:
    """A new session; its number."""
    result = await tx.connection.execute(sa.insert(sessions).values(_values(session)))
    return int(result.inserted_primary_key[0])  # type: ignore[index] # an insert of one row has it


async def change(tx: Transaction, changed: Sequence[tuple[int, Session]]) -> None:
    """What is known of these sessions now."""
    for _, session in changed:
        if session.state is not State.OPEN:
            tx.touch(topic(session.id))
    if changed:
        statement = sa.update(sessions).where(sessions.c.number == sa.bindparam("key"))
        await tx.connection.execute(statement, [{"key": number} | _values(session) for number, session in changed])


async def page(
    tx: Transaction, wanted: Filter, *, after: int | None, limit: int
) -> tuple[Sequence[Session], int | None]:
    """Sessions, newest first, and where the next page starts."""
    query = sa.select(sessions).order_by(sessions.c.number.desc()).limit(limit + 1)
    for column, value in wanted.narrowed().items():
        query = query.where(sessions.c[column] == value)
    state = sessions.c.state
    query = query.where(state.not_in(UNLISTED) if wanted.state is None else state == wanted.state)
    if after is not None:
        query = query.where(sessions.c.number < after)
    rows = (await tx.connection.execute(query)).all()
    following = rows[limit - 1].number if len(rows) > limit else None
    return [_session(row) for row in rows[:limit]], following


async def count_open(tx: Transaction, wanted: Filter) -> int:
    """How many open sessions fit, whatever state is wanted."""
    fits = [sessions.c[column] == value for column, value in wanted.narrowed().items()]
    query = sa.select(sa.func.count()).where(sessions.c.state == State.OPEN, *fits)
    return (await tx.connection.execute(query)).scalar_one()


async def count_fault(tx: Transaction, session_id: str, proxy: str) -> None:
    """One more fault was found in what its proxy sent for this session."""
    own = (sessions.c.id == session_id) & (sessions.c.proxy == proxy)
    await tx.connection.execute(sa.update(sessions).where(own).values(faults=sessions.c.faults + 1))


async def open_of(tx: Transaction, proxies: Iterable[str]) -> Sequence[tuple[int, Session]]:
    """The open sessions of these proxies, with their numbers, oldest first."""
    wanted = sessions.c.proxy.in_(list(proxies)) & (sessions.c.state == State.OPEN)
    rows = await tx.connection.execute(sa.select(sessions).where(wanted).order_by(sessions.c.number).limit(MOST_OPEN))
    return [(row.number, _session(row)) for row in rows]


async def count_open_of(tx: Transaction, proxies: Iterable[str]) -> Mapping[str, int]:
    """How many open sessions each of these proxies has; those without any are left out."""
    wanted = sessions.c.proxy.in_(list(proxies)) & (sessions.c.state == State.OPEN)
    query = sa.select(sessions.c.proxy, sa.func.count().label("sessions")).where(wanted).group_by(sessions.c.proxy)
    return {row.proxy: row.sessions for row in await tx.connection.execute(query)}
