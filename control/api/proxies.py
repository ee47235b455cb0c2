"""`/v1/proxies`, `/v1/directives` and `/v1/records`: what proxies ask and send, and joining."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import asdict
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request, Response

from control.api.callers import Admin, Auditor, Office, ProxyCaller, unauthenticated
from control.api.people import Limit
from control.api.problems import ProblemError, unwrap
from control.api.shapes import JoinTokenOut, NewJoinToken, Page, ProxyOut, ReapOut, Why
from control.api.streams import NDJSON, Stream
from control.domain.results import Failure, Reason
from control.evidence.chain import Kind, parse
from control.evidence.ingest import Taken, ingest
from control.operations import proxies, reaping
from control.services import Services
from control.times import SECOND
from proxy.contract.directive import Acknowledged, Joining, encode
from proxy.contract.proof import SCHEME

BATCH_BYTES = 4 * 1024 * 1024
RECORD_BYTES = 900 * 1024 * 1024
"""One record alone may be as large as a statement at the proxy (128 MiB, and JSON's escapes may make six of each byte);
SQLite keeps up to 10^9 bytes. One such body is read at a time."""
LARGE_WAIT_S = 30

router = APIRouter(prefix="/v1", tags=["proxies"])


@router.post("/proxies/join", openapi_extra={"requestBody": {"content": {"application/json": {}}, "required": True}})
async def join_proxy(request: Request, services: Office) -> Response:
    """Register a proxy's public key with a join token."""
    try:
        joining = msgspec.json.decode(await request.body(), type=Joining)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ProblemError(422, Reason.INVALID, str(error)) from error
    joined = await proxies.join(services, joining)
    if isinstance(joined, Failure) and joined.reason is Reason.BAD_JOIN_TOKEN:
        refused = unauthenticated(request, services, "Join", joined.detail)
        if refused.status == 429:  # noqa: PLR2004 too many requests
            raise refused
    return _json(unwrap(joined))


@router.post("/proxies/join-tokens", status_code=201)
async def create_join_token(services: Office, caller: Admin, new: NewJoinToken | None = None) -> JoinTokenOut:
    """A token that one proxy can join with, once, within an hour. It is shown this once."""
    made = await proxies.new_token(services, proxy=None if new is None else new.proxy, by=caller.name)
    text, expires_at = unwrap(made)
    return JoinTokenOut.model_validate({"join_token": text, "expires_at": expires_at})


@router.get("/proxies")
async def list_proxies(services: Office, _: Auditor, after: str | None = None, limit: Limit = 100) -> Page[ProxyOut]:
    """The proxies that have joined, by name, with the public keys that records are verified with."""
    found, following = await proxies.page(services, after=after, limit=limit)
    standing = await reaping.standings(services, found)
    items = [
        ProxyOut.model_validate(
            asdict(standing[proxy.name])
            | {
                "name": proxy.name,
                "public_key": proxy.keys[0],
                "public_keys": proxy.keys,
                "joined_at": proxy.joined_at,
                "last_seen_at": max(proxy.last_seen_at, services.presence.last_seen(proxy.name)),
                "connected": services.presence.connected(proxy.name),
            }
        )
        for proxy in found
    ]
    return Page(items=items, next=following)


@router.post("/proxies/{name}/reap", status_code=202)
async def reap_proxy(services: Office, caller: Admin, name: str, why: Why) -> ReapOut:
    """Say that a proxy is gone for good: others end what it has left, all of it, until that is on record.

    Only for a proxy that has been silent for longer than its lease.
    """
    ordered = unwrap(await reaping.order(services, name, by=caller.name, reason=why.reason))
    return ReapOut(proxy=name, sessions=ordered)


@router.get("/directives", response_class=Response)
async def follow_directives(
    services: Office, caller: ProxyCaller, after: Annotated[int, Query(ge=0, lt=2**63)] = 0
) -> Stream:
    """The stream of directives behind the cursor `after`, NDJSON, without an end."""
    if not caller.covers(b""):
        raise ProblemError(401, "unauthenticated", "the proof is for a body", headers={"www-authenticate": SCHEME})
    return Stream(_directives(services, caller.proxy.name, after), media_type=NDJSON)


@router.post("/records", openapi_extra={"requestBody": {"content": {NDJSON: {}}, "required": True}})
async def take_records(request: Request, services: Office, caller: ProxyCaller) -> Response:
    """Take in journal lines, NDJSON. What is known already is passed over; what does not fit its chain is a problem."""
    async with AsyncExitStack() as stack:
        body = await _read(request, services, stack)
        if not await asyncio.to_thread(caller.covers, body):
            raise unauthenticated(request, services, SCHEME, "the proof is for another body")
        async with services.reading:
            parsed = await asyncio.to_thread(parse, body)
            async with services.taking:
                taken = await ingest(services.store, proxy=caller.proxy, parsed=parsed, now=services.clock())
    services.metrics.records.inc(taken.stored)
    for session in taken.ended:
        if session.stop_ns is not None:
            services.metrics.stops.labels(session.end_reason).observe(session.stop_ns / SECOND)
    services.metrics.faults.inc(len(taken.flaws))
    if taken.flaws:
        raise _faulty(taken)
    return _json(Acknowledged(stored=taken.stored, known=taken.known))


async def _read(request: Request, services: Services, stack: AsyncExitStack) -> bytes:
    """The body. Over BATCH_BYTES it is to be one record, and waits for its turn, which `stack` ends."""
    body = bytearray()
    large, newline = False, -1
    async for chunk in request.stream():
        if newline < 0 and (found := chunk.find(b"\n")) >= 0:
            newline = len(body) + found
        body += chunk
        if len(body) <= BATCH_BYTES:
            continue
        if 0 <= newline < len(body) - 1:
            raise ProblemError(413, "content-too-large", f"several records at once may have {BATCH_BYTES} bytes")
        if not large:
            large = True
            try:
                async with asyncio.timeout(LARGE_WAIT_S):
                    await stack.enter_async_context(services.large)
            except TimeoutError as error:
                raise ProblemError(503, "busy", "another large record is being taken in; try again") from error
    return bytes(body)


async def _directives(services: Services, proxy: str, after: int) -> AsyncIterator[bytes]:
    with services.metrics.streams.track_inprogress():
        async with aclosing(proxies.follow(services, proxy, after)) as followed:
            async for directive in followed:
                yield encode(directive)


def _faulty(taken: Taken) -> ProblemError:
    """What was good is stored all the same, and what was not is kept as a fault.

    409 lets the proxy go on behind it. A line that is no record may be one of a newer version: 422 has it wait.
    """
    status = 422 if any(flaw.kind is Kind.MALFORMED for flaw in taken.flaws) else 409
    first = taken.flaws[0]
    more: dict[str, Any] = {
        "stored": taken.stored,
        "known": taken.known,
        "faults": [
            {"session": flaw.session, "seq": flaw.seq, "kind": flaw.kind, "detail": flaw.detail} for flaw in taken.flaws
        ],
    }
    where = f"session {first.session}, record {first.seq}: " if first.session else ""
    return ProblemError(status, "record-fault", f"{where}{first.kind}: {first.detail}", more=more)


def _json(answer: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")
