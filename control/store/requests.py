"""Queries: requests."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import sqlalchemy as sa

from control.domain.requests import Request, State
from control.store.engine import Transaction
from control.store.paging import newest_first
from control.store.records import IN_ONE_QUERY
from control.store.tables import requests
from proxy.contract.grant import EndMode


def topic(request_id: str) -> str:
    """What a change of the request is announced as."""
    return f"request:{request_id}"


def _request(row: sa.Row[tuple[object, ...]]) -> Request:
    values = dict(row._mapping)  # noqa: SLF001 SQLAlchemy's public name for it (a row's own names could clash)
    del values["number"]
    values |= {
        "databases": tuple(row.databases),
        "addresses": tuple(row.addresses),
        "end": EndMode(row.end),
        "state": State(row.state),
    }
    return Request(**values)


async def find(tx: Transaction, request_id: str) -> Request | None:
    """The request with this id, as it is stored: `domain.requests.as_of` says how it stands."""
    row = (await tx.connection.execute(sa.select(requests).where(requests.c.id == request_id))).first()
    return None if row is None else _request(row)


async def add(tx: Transaction, request: Request) -> None:
    """A new request."""
    await tx.connection.execute(sa.insert(requests).values(asdict(request)))


async def change(tx: Transaction, request: Request) -> None:
    """What is known of the request now."""
    await tx.connection.execute(sa.update(requests).where(requests.c.id == request.id).values(asdict(request)))
    tx.touch(topic(request.id))


async def page(
    tx: Transaction, *, person: str | None, state: State | None, now: int, after: int | None, limit: int
) -> tuple[Sequence[Request], int | None]:
    """Requests, newest first, and where the next page starts."""
    query = sa.select(requests)
    if person is not None:
        query = query.where(requests.c.person == person)
    if state is not None:
        query = query.where(_stands(state, now))
    rows, following = await newest_first(tx, query, requests.c.number, after=after, limit=limit)
    return [_request(row) for row in rows], following


async def extension_is_open(tx: Transaction, grant_id: str, now: int) -> bool:
    """Whether a request to extend the grant waits for a decision."""
    waiting = sa.select(requests.c.number).where(requests.c.extends == grant_id, _stands(State.PENDING, now))
    return (await tx.connection.execute(waiting.limit(1))).first() is not None


async def close_extensions(tx: Transaction, grant_id: str, now: int) -> None:
    """The grant is over: what would extend it has expired by `now`."""
    open_ones = (requests.c.extends == grant_id) & _stands(State.PENDING, now)
    for row in (await tx.connection.execute(sa.select(requests.c.id).where(open_ones))).all():
        tx.touch(topic(row.id))
    await tx.connection.execute(sa.update(requests).where(open_ones).values(pending_until=now))


async def extensions_of(tx: Transaction, grant_ids: Sequence[str]) -> Mapping[str, Sequence[Request]]:
    """The approved extensions of each of these grants, by grant; one that has none is left out."""
    found: dict[str, list[Request]] = {}
    for start in range(0, len(grant_ids), IN_ONE_QUERY):
        these = requests.c.extends.in_(grant_ids[start : start + IN_ONE_QUERY])
        query = sa.select(requests).where(these, requests.c.state == State.APPROVED).order_by(requests.c.number)
        for row in await tx.connection.execute(query):
            found.setdefault(row.extends, []).append(_request(row))
    return found


async def all_extensions_of(tx: Transaction, grant_id: str) -> Sequence[Request]:
    """Every request for more time on this grant, whatever became of it, as it is stored."""
    query = sa.select(requests).where(requests.c.extends == grant_id).order_by(requests.c.number)
    return [_request(row) for row in await tx.connection.execute(query)]


def _stands(state: State, now: int) -> sa.ColumnElement[bool]:
    """The clock's part of `as_of`, for the database: what is stored as pending may have expired."""
    overdue = requests.c.pending_until <= now
    match state:
        case State.PENDING:
            return (requests.c.state == state) & ~overdue
        case State.EXPIRED:
            return (requests.c.state == state) | ((requests.c.state == State.PENDING) & overdue)
        case _:
            return requests.c.state == state
