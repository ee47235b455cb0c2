"""Every error as `application/problem+json` (RFC 9457), whoever raises it: a rule, FastAPI, Starlette, or a fault."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from control.domain.results import Failure, Reason, Result

Value = TypeVar("Value")

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:curfew:problem:"
FAULTS_SHOWN = 10

STATUS: Mapping[Reason, HTTPStatus] = {
    Reason.INVALID: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.TOKEN_TOO_LONG: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Reason.FORBIDDEN: HTTPStatus.FORBIDDEN,
    Reason.OWN_REQUEST: HTTPStatus.FORBIDDEN,
    Reason.OWN_LOCK: HTTPStatus.FORBIDDEN,
    Reason.BAD_JOIN_TOKEN: HTTPStatus.FORBIDDEN,
    Reason.WRONG_STATE: HTTPStatus.CONFLICT,
    Reason.CONFLICT: HTTPStatus.CONFLICT,
    Reason.NOT_ACTIVE: HTTPStatus.CONFLICT,
    Reason.LOCKED: HTTPStatus.LOCKED,
    Reason.LOG_DAMAGED: HTTPStatus.INTERNAL_SERVER_ERROR,
    Reason.BUSY: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.NOT_READY: HTTPStatus.SERVICE_UNAVAILABLE,
}


class Problem(BaseModel):
    """An error (RFC 9457). `type` is stable; `detail` is for people."""

    type: str = Field(examples=["urn:curfew:problem:own-request"])
    title: str
    status: int
    detail: str


class ProblemError(Exception):
    """Ends a request with a problem. `more` are extension members."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = headers
        self.more = more or {}


def unwrap(result: Result[Value]) -> Value:
    """The value of a success; a failure ends the request."""
    if isinstance(result, Failure):
        raise ProblemError(STATUS[result.reason], result.reason, result.detail)
    return result.value


def response(error: ProblemError) -> JSONResponse:
    """The response for a problem."""
    body = {
        "type": TYPE_PREFIX + error.kind,
        "title": HTTPStatus(error.status).phrase,
        "status": int(error.status),
        "detail": error.detail,
        **error.more,
    }
    return JSONResponse(body, error.status, error.headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Have `app` answer every error that it handles this way. What it does not handle is the envelope's."""
    app.add_exception_handler(ProblemError, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)


async def _problem(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ProblemError)
    return response(error)


async def _http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    kind = HTTPStatus(error.status_code).name.lower().replace("_", "-")
    return response(ProblemError(error.status_code, kind, str(error.detail), headers=error.headers))


async def _validation(_request: Request, error: Exception) -> JSONResponse:
    """Say where and what, but never repeat the input: it may hold a secret."""
    assert isinstance(error, RequestValidationError)
    faults = [
        {"at": ".".join(str(part) for part in fault["loc"][1:] or fault["loc"]), "what": str(fault["msg"])}
        for fault in error.errors()[:FAULTS_SHOWN]
    ]
    detail = "; ".join(f"{fault['at']}: {fault['what']}" for fault in faults)
    return response(ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, Reason.INVALID, detail))
