"""What is around every request: limits on its body, headers of the response, the log, the metrics, the last resort.

Plain ASGI, outermost. It reads nothing of a body and never logs a query string, a header or an address's owner.
"""

import asyncio
import time
from collections.abc import Mapping
from http import HTTPStatus

import structlog
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control.api.problems import ProblemError, response
from control.metrics import Metrics

BODY_BYTES = 64 * 1024
BODY_S = 60
"""A body is there within this time, or the request ends: a client that dribbles holds nothing for long."""

HEADERS = {
    # Answers hold tokens, keys, and what people did in databases: nothing on the way may keep them.
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}

CONSTANT = frozenset({"/v1/presence"})
"""What every proxy says every two seconds: nothing for the log, as long as it goes well."""

log = structlog.get_logger(__name__)


class Envelope:
    """Wraps the application. `larger` are the paths that may take more than BODY_BYTES."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, tls: bool, larger: Mapping[str, int]) -> None:
        self._app = app
        self._metrics = metrics
        self._larger = larger
        self._headers = HEADERS | ({"strict-transport-security": "max-age=31536000"} if tls else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        sender = _Sender(send, self._headers)
        limit = self._larger.get(scope["path"], BODY_BYTES)
        try:
            if _announced(scope) > limit:
                # The connection goes: what is still to come of the body would have to be read to keep it.
                raise _too_large(limit)
            await self._app(scope, _Receiver(receive, limit).receive, sender.send)
        except HTTPException as error:
            await sender.problem(scope, receive, ProblemError(error.status_code, "content-too-large", error.detail))
        except Exception:  # the edge: whatever it was, the client gets a problem and no internals
            log.exception("request failed", method=scope["method"], route=_route(scope))
            await sender.problem(scope, receive, ProblemError(500, "internal", "a fault in Curfew; its log says more"))
        finally:
            self._count(scope, sender.status, time.perf_counter() - started)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route, method = _route(scope), scope["method"]
        known = method if method in {"GET", "POST", "PATCH", "DELETE", "HEAD", "PUT", "OPTIONS"} else "other"
        self._metrics.requests.labels(known, route, status).inc()
        self._metrics.durations.labels(route).observe(seconds)
        note = log.debug if route in CONSTANT and status < HTTPStatus.BAD_REQUEST else log.info
        note("request", method=known, route=route, status=status, seconds=round(seconds, 4))


class _Receiver:
    """Counts the body's bytes, and bounds the time that it takes."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._seen = 0
        self._complete = False
        self._deadline = asyncio.get_running_loop().time() + BODY_S

    async def receive(self) -> Message:
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError as error:
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, "the body did not come in time") from error
        self._seen += len(message.get("body", b""))
        if self._seen > self._limit:
            raise _too_large(self._limit)
        self._complete = not message.get("more_body", False)
        return message


class _Sender:
    """Adds the headers, and remembers the status."""

    def __init__(self, send: Send, headers: Mapping[str, str]) -> None:
        self._send = send
        self._headers = headers
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in self._headers.items():
                headers.setdefault(name, value)
        await self._send(message)

    async def problem(self, scope: Scope, receive: Receive, error: ProblemError) -> None:
        """Answer with a problem, where nothing was answered yet."""
        if not self.status:
            await response(error)(scope, receive, self.send)


def _too_large(limit: int) -> HTTPException:
    return HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body may have {limit} bytes")


def _announced(scope: Scope) -> int:
    """The Content-Length, 0 where there is none: uvicorn has refused one that is no number."""
    return next((int(value) for name, value in scope["headers"] if name == b"content-length"), 0)


def _route(scope: Scope) -> str:
    """The route's pattern: a path itself would make as many metrics as there are ids."""
    return getattr(scope.get("route"), "path", "none")
