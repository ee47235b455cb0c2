"""`/v1/sessions/{session_id}/export`: one session as a file."""

import re
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request, Response

from control.api.callers import Caller, Office
from control.api.problems import unwrap
from control.api.shapes import SessionOut
from control.api.streams import Stream, gathered
from control.domain.people import Person
from control.evidence.exports.formats import KINDS, Format, exporter
from control.operations import exports, sessions
from control.services import Services

router = APIRouter(prefix="/v1", tags=["evidence"])
NAME = re.compile(r"[^A-Za-z0-9_-]")
"""What a file's name does not have: a session's id is what a proxy made it."""


@router.get("/sessions/{session_id}/export", response_class=Response)
async def get_export(services: Office, caller: Caller, request: Request, session_id: str, format: Format) -> Stream:  # noqa: A002 the parameter's name
    """A session as `records`, `jsonl`, `html`, `asciicast`, `ocsf` (Datastore Activity, 6005) or `ecs`."""
    kind = KINDS[format]
    pieces = await _pieces(services, caller, session_id, format, request.app.version)
    file = f"curfew-{NAME.sub('_', session_id)}.{kind.suffix}"
    disposition = {"content-disposition": f'attachment; filename="{file}"'}
    return Stream(gathered(pieces), media_type=kind.media_type, headers=disposition)


async def _pieces(
    services: Services, caller: Person, session_id: str, wanted: Format, version: str
) -> AsyncIterator[bytes]:
    if wanted is Format.RECORDS:
        _, lines = unwrap(await sessions.lines(services, session_id, asker=caller))
        return lines
    session, items = unwrap(await exports.items(services, session_id, asker=caller, wanted=wanted))
    summary = SessionOut.model_validate(session).model_dump(mode="json")
    return exports.written(exporter(wanted, session, version=version, summary=summary), items)
