"""`/v1/sessions` and `/v1/faults`: what was done."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Annotated, TypeVar

import msgspec
from fastapi import APIRouter, Header, Query, Response

from control.api.access import After, WaitS
from control.api.callers import Auditor, Caller, Office, StillCaller
from control.api.people import Limit
from control.api.problems import unwrap
from control.api.shapes import FaultOut, Page, SessionOut, Why
from control.api.streams import NDJSON, Stream, gathered
from control.domain.sessions import Session, State
from control.evidence.timeline import Item
from control.operations import faults, following, sessions
from control.store.sessions import Filter

router = APIRouter(prefix="/v1", tags=["evidence"])

Batched = TypeVar("Batched")
Follow = Annotated[bool, Query(description="Go on with what comes, until the session is over.")]


@router.get("/sessions")
async def list_sessions(
    services: Office,
    caller: Caller,
    *,
    person: str | None = None,
    target: str | None = None,
    profile: str | None = None,
    proxy: str | None = None,
    grant: str | None = None,
    state: State | None = None,
    after: After = None,
    limit: Limit = 100,
) -> Page[SessionOut]:
    """The sessions that you may see, newest first. Refused connections are listed with `state=refused` only."""
    wanted = Filter(person=person, target=target, profile=profile, proxy=proxy, grant=grant, state=state)
    found, following = await sessions.page(services, wanted, asker=caller, after=after, limit=limit)
    items = [SessionOut.model_validate(session) for session in found]
    return Page.of(items, following)


@router.get("/sessions/{session_id}")
async def get_session(services: Office, caller: Caller, session_id: str, wait_s: WaitS = 0) -> SessionOut:
    """One session; with `wait_s`, once its end is known, or as it stands after that time."""
    return SessionOut.model_validate(unwrap(await sessions.get(services, session_id, asker=caller, wait_s=wait_s)))


@router.get("/sessions/{session_id}/records", response_class=Response)
async def get_records(
    services: Office,
    caller: Caller,
    still: StillCaller,
    session_id: str,
    *,
    after: Annotated[int, Query(ge=-1, lt=2**63)] = -1,
    follow: Follow = False,
) -> Stream:
    """A session's records behind `after`, NDJSON, byte for byte as the proxy wrote and chained them.

    With `follow` those to come too, until the session is over. Empty lines say in between that the stream lives.
    """
    if follow:
        followed = await following.lines(services, session_id, asker=caller, still=still, after=after)
        return Stream(_followed(b"".join, unwrap(followed)), media_type=NDJSON)
    _, lines = unwrap(await sessions.lines(services, session_id, asker=caller, after=after))
    return Stream(gathered(lines), media_type=NDJSON)


@router.get("/sessions/{session_id}/timeline", response_class=Response)
async def get_timeline(
    services: Office,
    caller: Caller,
    still: StillCaller,
    session_id: str,
    *,
    follow: Follow = False,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Stream:
    """A session told in order: `{"session": ..., "items": [...]}`.

    Where NDJSON is accepted it is that: a line `{"session": ...}`, then a line for each item. So it always is with
    `follow`: then what happens comes too, until the session is over. A statement comes when it begins, and again under
    the same `seq` when it has ended. Empty lines say in between that the stream lives.
    """
    if follow:
        session, batches = unwrap(await following.timeline(services, session_id, asker=caller, still=still))
        return Stream(_followed(_ndjson, batches, first=_shown(session, b"}\n")), media_type=NDJSON)
    session, items = unwrap(await sessions.timeline(services, session_id, asker=caller))
    if NDJSON in accept:
        return Stream(gathered(_lines(_shown(session, b"}\n"), items)), media_type=NDJSON)
    return Stream(gathered(_timeline(_shown(session, b',"items":['), items)), media_type="application/json")


@router.post("/sessions/{session_id}/kill", status_code=202)
async def kill_session(services: Office, caller: Caller, session_id: str, why: Why) -> SessionOut:
    """End a session. The order is on its way to the proxy when this returns; the summary says when it is done."""
    return SessionOut.model_validate(unwrap(await sessions.kill(services, session_id, by=caller, reason=why.reason)))


@router.get("/faults")
async def list_faults(services: Office, _: Auditor, after: After = None, limit: Limit = 100) -> Page[FaultOut]:
    """Lines that proxies sent and that are not what they should be, newest first."""
    found, following = await faults.page(services, after=after, limit=limit)
    items = [FaultOut.model_validate(fault) for fault in found]
    return Page.of(items, following)


def _shown(session: Session, behind: bytes) -> bytes:
    return b'{"session":' + SessionOut.model_validate(session).model_dump_json().encode() + behind


async def _timeline(head: bytes, items: AsyncIterator[Item]) -> AsyncIterator[bytes]:
    encode = msgspec.json.Encoder().encode
    yield head
    mark = b""
    async for item in items:
        yield mark + encode(item)
        mark = b","
    yield b"]}"


async def _lines(head: bytes, items: AsyncIterator[Item]) -> AsyncIterator[bytes]:
    yield head
    async for item in items:
        yield _ndjson((item,))


def _ndjson(items: Sequence[Item]) -> bytes:
    return b"".join(msgspec.json.encode(item) + b"\n" for item in items)


async def _followed(
    joined: Callable[[Sequence[Batched]], bytes],
    batches: AsyncGenerator[Sequence[Batched], None],
    *,
    first: bytes = b"",
) -> AsyncIterator[bytes]:
    """Each batch as soon as it is there; an empty line for one that has nothing."""
    if first:
        yield first
    async with aclosing(batches):
        async for batch in batches:
            yield joined(batch) or b"\n"
