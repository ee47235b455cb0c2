"""Queries: requests."""

from collections.abc import Sequence
from dataclasses import asdict

import sqlalchemy as sa

from control.domain.requests import Request, State
from control.store.engine import Transaction
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
    query = sa.select(requests).order_by(requests.c.number.desc()).limit(limit + 1)
    if person is not None:
        query = query.where(requests.c.person == person)
    if state is not None:
        query = query.where(_stands(state, now))
    if after is not None:
        query = query.where(requests.c.number < after)
    rows = (await tx.connection.execute(query)).all()
    following = rows[limit - 1].number if len(rows) > limit else None
    return [_request(row) for row in rows[:limit]], following


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
