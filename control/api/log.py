"""`/v1/log`: the transparency log's signed head, its tiles and its proofs.

Checkpoint and tiles are where tools for such logs look for them (https://c2sp.org/tlog-tiles), below `/v1/log`.
"""

import base64
import re
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from control.api.callers import Auditor, Caller, Office
from control.api.problems import ProblemError, unwrap
from control.domain.results import Reason
from control.evidence.tree import WIDTH
from control.operations import log
from control.operations.log import LogError
from proxy.contract.merkle import MOST_LEAVES

router = APIRouter(prefix="/v1/log", tags=["evidence"])
Size = Annotated[int, Query(ge=0, le=MOST_LEAVES)]
TILE = "application/octet-stream"
_NUMBER = re.compile(r"((?:x\d{3}/)*\d{3})(?:\.p/([1-9]\d{0,2}))?", re.ASCII)
_PATH = 60


class ConsistencyOut(BaseModel):
    """That the tree of `new` records begins with the one of `old` (RFC 9162, 2.1.4)."""

    old: int
    new: int
    hashes: list[str]
    """In base64."""


class InclusionOut(BaseModel):
    """That a record is in the tree of `size` records, as number `leaf` (RFC 9162, 2.1.3)."""

    leaf: int
    size: int
    hashes: list[str]
    """In base64."""


class SubsetOut(BaseModel):
    """That the tree of `size` records has all of a session's, and where: one proof for all of them."""

    size: int
    leaves: list[tuple[int, int]]
    """Their numbers in the log, as ranges: the first, and how many."""
    hashes: str
    """The records' leaf hashes, one after the other, in base64."""
    proof: str
    """The hashes of the tree's other parts, from the left, in base64."""


@router.get("/checkpoint", response_class=Response)
async def get_checkpoint(services: Office) -> Response:
    """The newest head of the log, signed; all that was acknowledged before is in it. Needs no authentication."""
    try:
        head = await log.head(services)
    except LogError as error:
        raise ProblemError(500, Reason.LOG_DAMAGED, str(error)) from error
    return _text(head.note)


@router.get("/key", response_class=Response)
async def get_log_key(services: Office) -> Response:
    """The public key that heads are verified with: NAME+ID+KEY. Needs no authentication."""
    await log.ready(services)
    return _text(services.log_key.verifier() + "\n")


@router.get("/tile/{level}/{number:path}", response_class=Response)
async def get_tile(services: Office, _: Auditor, level: int, number: str) -> Response:
    """A tile of the tree: 256 hashes, or with `.p/W` behind its number its first W ones."""
    found = _NUMBER.fullmatch(number) if len(number) <= _PATH and 0 <= level < 8 else None  # noqa: PLR2004 64 bits
    if found is None:
        raise ProblemError(404, Reason.NOT_FOUND, "no tile has this number")
    digits, width = found.groups()
    place = int(digits.replace("x", "").replace("/", ""))
    if place > MOST_LEAVES:
        raise ProblemError(404, Reason.NOT_FOUND, "no tile has this number")
    tile = unwrap(await log.tile(services, level, place, WIDTH if width is None else int(width)))
    return Response(tile, media_type=TILE)


@router.get("/consistency")
async def get_consistency(services: Office, _: Caller, old: Size, new: Size) -> ConsistencyOut:
    """The proof that the log of `new` records has all of the log of `old`, unchanged."""
    proof = unwrap(await log.consistency(services, old, new))
    return ConsistencyOut(old=old, new=new, hashes=[_base64(one) for one in proof])


@router.get("/inclusion")
async def get_inclusion(
    services: Office, caller: Caller, session: str, seq: Annotated[int, Query(ge=0, lt=2**63)], size: Size
) -> InclusionOut:
    """The proof that a record is in the log of `size` records. For those who may read it."""
    leaf, proof = unwrap(await log.inclusion(services, session, seq, size, asker=caller))
    return InclusionOut(leaf=leaf, size=size, hashes=[_base64(one) for one in proof])


@router.get("/session")
async def get_session_proof(services: Office, caller: Caller, session: str, size: Size) -> SubsetOut:
    """One proof for all records of a session that the log of `size` records has. For those who may read them."""
    found = unwrap(await log.session(services, session, size, asker=caller))
    ranges: list[tuple[int, int]] = []
    for leaf in found.leaves:
        if ranges and sum(ranges[-1]) == leaf:
            ranges[-1] = (ranges[-1][0], ranges[-1][1] + 1)
        else:
            ranges.append((leaf, 1))
    return SubsetOut(
        size=size, leaves=ranges, hashes=_base64(b"".join(found.hashes)), proof=_base64(b"".join(found.proof))
    )


def _text(text: str) -> Response:
    return Response(text, media_type="text/plain; charset=utf-8")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
