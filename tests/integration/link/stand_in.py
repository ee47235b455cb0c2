"""A stand-in for control: a real HTTPS server that speaks its API to proxies, and does as a test says.

It verifies every proof as control does. Whatever a test may want to break is an attribute.
"""

import asyncio
import contextlib
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Self

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from proxy.contract import proof
from proxy.contract.directive import (
    Acknowledged,
    AnyDirective,
    Extension,
    Heartbeat,
    Joined,
    Joining,
    Locked,
    Revocation,
    Snapshot,
    encode,
)
from proxy.tasks import spawn
from tests.harness.certs import CertificateFiles
from tests.harness.waiting import eventually

JOIN_TOKEN = "join-me"
JWKS = '{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'
HEARTBEAT_S = 0.05


class StandIn:
    """One control. `start` and `stop` as often as a test likes; the port stays."""

    def __init__(self, certificate: CertificateFiles) -> None:
        self._certificate = certificate
        self._server: uvicorn.Server | None = None
        self._task: asyncio.Task[None] | None = None
        self._streams: list[asyncio.Queue[bytes | None]] = []
        self._probe = socket.create_server(("127.0.0.1", 0))
        self.port = self._probe.getsockname()[1]
        self.keys: dict[str, str] = {}
        self.joins = 0
        self.jwks = JWKS
        self.revoked: list[Revocation] = []
        self.locks: list[Locked] = []
        self.extended: list[Extension] = []
        self.cursors: list[int] = []
        """What each stream asked to follow."""
        self.silent = False
        """No snapshot and no heartbeats: a stream that is open and says nothing."""
        self.lines: list[bytes] = []
        """Every record that was stored, in the order in which it came."""
        self.keeps = True
        """Whether `lines` is filled; without, every line counts as new."""
        self.posts: list[int] = []
        """How many lines each post of records had."""
        self.forgetful = 0
        """So many posts are stored and then answered with 500: an answer that was lost."""
        self.miscounts = False
        """Say that one record fewer was stored than was sent."""
        self.answers: deque[Response] = deque()
        """What the next posts of records get instead of being taken."""
        self.refuse: Callable[[bytes], Response | None] = lambda _line: None
        """Judges each line of a post; the first answer is the whole post's, and nothing of it is taken."""

    @property
    def url(self) -> str:
        """Where it is."""
        return f"https://localhost:{self.port}"

    @property
    def streams(self) -> int:
        """How many proxies follow the directives."""
        return len(self._streams)

    async def start(self) -> None:
        """Serve."""
        routes = [
            Route("/v1/proxies/join", self._join, methods=["POST"]),
            Route("/v1/directives", self._directives),
            Route("/v1/records", self._records, methods=["POST"]),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes),
            ssl_certfile=str(self._certificate.certificate),
            ssl_keyfile=str(self._certificate.key),
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        self._probe.close()
        listener = socket.create_server(("127.0.0.1", self.port))
        self._server = uvicorn.Server(config)
        self._task = spawn("stand-in for control", self._server.serve(sockets=[listener]))
        server = self._server
        await eventually(lambda: server.started)

    async def stop(self) -> None:
        """Hang up on everybody and stop listening."""
        if self._server is None or self._task is None:
            return
        self.hang_up()
        self._server.should_exit = True
        await self._task
        self._server = self._task = None

    def hang_up(self) -> None:
        """End every stream."""
        for stream in self._streams:
            stream.put_nowait(None)

    def tell(self, directive: AnyDirective) -> None:
        """Send a directive to everybody."""
        self.tell_raw(encode(directive))

    def tell_raw(self, data: bytes) -> None:
        """Send whatever it is."""
        for stream in self._streams:
            stream.put_nowait(data)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        self._probe.close()

    async def _join(self, request: Request) -> Response:
        joining = msgspec.json.decode(await request.body(), type=Joining)
        self.joins += 1
        if joining.join_token != JOIN_TOKEN:
            return problem(403)
        self.keys[joining.name] = joining.public_key
        joined = Joined(issuer="https://control.test", audience="fleet", jwks=self.jwks)
        return Response(msgspec.json.encode(joined), media_type="application/json")

    async def _directives(self, request: Request) -> Response:
        if not await self._proven(request):
            return problem(401)
        self.cursors.append(int(request.query_params["after"]))
        return StreamingResponse(self._stream(), media_type="application/x-ndjson")

    async def _stream(self) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        if not self.silent:
            told = Snapshot(
                cursor=99,
                at=time.time_ns(),
                revoked=self.revoked,
                jwks=self.jwks,
                locks=self.locks,
                extended=self.extended,
            )
            yield encode(told)
        self._streams.append(queue)
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(HEARTBEAT_S):
                        if (data := await queue.get()) is None:
                            return
                        yield data
                        continue
                if not self.silent:
                    yield encode(Heartbeat(cursor=self.cursors[-1], at=time.time_ns()))
        finally:
            self._streams.remove(queue)

    async def _records(self, request: Request) -> Response:
        if not await self._proven(request):
            return problem(401)
        if self.answers:
            return self.answers.popleft()
        lines = (await request.body()).splitlines()
        self.posts.append(len(lines))
        for line in lines:
            if (answer := self.refuse(line)) is not None:
                return answer
        known = set(self.lines)
        new = [line for line in lines if line not in known]
        self.lines += new if self.keeps else []
        if self.forgetful:
            self.forgetful -= 1
            return problem(500)
        taken = Acknowledged(stored=len(new) - self.miscounts, known=len(lines) - len(new))
        return Response(msgspec.json.encode(taken), media_type="application/json")

    async def _proven(self, request: Request) -> bool:
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        try:
            key = proof.public_key(self.keys.get(proof.issuer_of(text), ""))
            proof.verify(text, key, method=request.method, path=path, body=await request.body(), now=time.time())
        except (proof.ProofError, ValueError):
            return False
        return scheme == proof.SCHEME


def problem(status: int) -> Response:
    """An error as control answers it."""
    body = msgspec.json.encode({"type": "about:blank", "title": "no", "status": status, "detail": "says the test"})
    return Response(body, status, media_type="application/problem+json")
