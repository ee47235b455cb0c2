"""`/v1/grants/{grant_id}/places` and `/v1/presence`: how many sessions there are, and which proxies."""

from typing import TypeVar

import msgspec
from fastapi import APIRouter, Request, Response

from control.api.callers import Office, ProxyCaller, unauthenticated
from control.api.problems import ProblemError, unwrap
from control.domain.results import Reason
from control.operations import places
from control.operations.authentication import ProvenRequest
from control.services import Services
from proxy.contract.places import Present, Wanted
from proxy.contract.proof import SCHEME

Body = TypeVar("Body", bound=msgspec.Struct)

router = APIRouter(prefix="/v1", tags=["proxies"])
JSON = {"requestBody": {"content": {"application/json": {}}, "required": True}}


@router.post("/grants/{grant_id}/places", openapi_extra=JSON)
async def take_place(request: Request, services: Office, caller: ProxyCaller, grant_id: str) -> Response:
    """Count one more session of a grant in, where it allows one. Asking again for the same session changes nothing."""
    wanted = await _read(request, services, caller, Wanted)
    return _json(unwrap(await places.take(services, caller.proxy.name, grant_id, wanted)))


@router.post("/presence", openapi_extra=JSON)
async def tell_presence(request: Request, services: Office, caller: ProxyCaller) -> Response:
    """Say that a proxy's process is there, and which of its sessions have places; the others' are given back."""
    present = await _read(request, services, caller, Present)
    return _json(await places.hear(services, caller.proxy.name, present))


async def _read(request: Request, services: Services, caller: ProvenRequest, form: type[Body]) -> Body:
    body = await request.body()
    if not caller.covers(body):
        raise unauthenticated(request, services, SCHEME, "the proof is for another body")
    try:
        return msgspec.json.decode(body, type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ProblemError(422, Reason.INVALID, str(error)) from error


def _json(answer: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")
