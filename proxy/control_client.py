"""HTTP to control: one signed exchange, and the stream of directives. The only part of the proxy that speaks HTTP out.

Owns the connection, its TLS and its bounds in time and size. Never retries and decides nothing: see
`proxy.control_link` (joining, directives), `proxy.shipping` (records) and `proxy.quota` (places).
"""

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar
from urllib.parse import quote

import httpx2
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy.contract import proof
from proxy.contract.directive import Acknowledged, Joined, Joining
from proxy.contract.places import Counted, Heard, Present, Wanted

CONNECT_S = 5.0
EXCHANGE_S = 60.0
SLOWEST_BYTES_PER_S = 1_048_576
"""A body gets this much more time: one record can be as long as a statement, and its JSON longer."""
ANSWER_BYTES = 1_048_576
CONNECTIONS = 8
"""One for the directives, one for the journal, the others for logins that wait to be counted."""
PIECE_BYTES = 131_072
"""A body goes out in pieces: each is encrypted at one go, which holds the sessions up, and copied on its way."""
LINE_BYTES = 16_777_216
"""The longest directive: a snapshot takes some 150 bytes for each grant that is revoked and not yet expired."""
SHOWN_CHARACTERS = 500
SUCCESS = range(200, 300)

Answer = TypeVar("Answer")

_acknowledged: msgspec.json.Decoder[Acknowledged] = msgspec.json.Decoder(Acknowledged)
_counted: msgspec.json.Decoder[Counted] = msgspec.json.Decoder(Counted)
_heard: msgspec.json.Decoder[Heard] = msgspec.json.Decoder(Heard)
_joined: msgspec.json.Decoder[Joined] = msgspec.json.Decoder(Joined)


class _Pieces:
    """A body in pieces, as often as it is asked for."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with memoryview(self._body) as view:
            for at in range(0, len(view), PIECE_BYTES):
                yield bytes(view[at : at + PIECE_BYTES])


class ControlError(Exception):
    """Control cannot be reached, or did not do what was asked. `status` is None where there was no answer."""

    def __init__(self, text: str, *, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class ControlClient:
    """Control's API as this proxy, `name`, uses it."""

    def __init__(self, *, url: str, ca_file: str | None, name: str, key: Ed25519PrivateKey, silence_s: float) -> None:
        """Raises OSError (ssl.SSLError is one) where `ca_file` cannot be used. `silence_s` ends a stream."""
        self._silence_s = silence_s
        self._name = name
        self._key = key
        self._http = httpx2.AsyncClient(
            base_url=url,
            verify=ssl.create_default_context(cafile=ca_file),
            timeout=httpx2.Timeout(EXCHANGE_S, connect=CONNECT_S),
            limits=httpx2.Limits(max_connections=CONNECTIONS),
            trust_env=False,  # a proxy variable of some shell must not lead the evidence elsewhere
            headers={"Accept-Encoding": "identity", "User-Agent": "curfew-proxy"},
        )

    async def join(self, joining: Joining) -> Joined:
        """Register this proxy's key. Raises ControlError."""
        body = msgspec.json.encode(joining)
        request = self._http.build_request(
            "POST", "/v1/proxies/join", content=body, headers={"Content-Type": "application/json"}
        )
        return _decoded(_joined, await self._exchange(request))

    async def post_records(self, body: bytes) -> Acknowledged:
        """Send lines of the journal. Raises ControlError."""
        request = await self._signed("POST", "/v1/records", body, "application/x-ndjson")
        return _decoded(_acknowledged, await self._exchange(request))

    async def take_place(self, grant: str, wanted: Wanted) -> Counted:
        """Have a session of `grant` counted in. Raises ControlError."""
        path = f"/v1/grants/{quote(grant, safe='')}/places"
        request = await self._signed("POST", path, msgspec.json.encode(wanted), "application/json")
        return _decoded(_counted, await self._exchange(request))

    async def tell_presence(self, present: Present) -> Heard:
        """Say that this process is there, and what it has. Raises ControlError."""
        request = await self._signed("POST", "/v1/presence", msgspec.json.encode(present), "application/json")
        return _decoded(_heard, await self._exchange(request))

    @asynccontextmanager
    async def directives(self, after: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """The stream of directives behind the cursor `after`: lines, until it breaks with ControlError or ends."""
        request = await self._signed("GET", f"/v1/directives?after={after}")
        request.extensions["timeout"] = httpx2.Timeout(self._silence_s, connect=CONNECT_S).as_dict()
        try:
            async with asyncio.timeout(EXCHANGE_S):
                response = await self._open(request)
            try:
                async with aclosing(_lines(response, self._silence_s)) as lines:
                    yield lines
            finally:
                await response.aclose()
        except (httpx2.HTTPError, OSError) as error:
            raise _unreachable(error) from error

    async def close(self) -> None:
        """Give up every connection."""
        await self._http.aclose()

    async def _signed(
        self, method: str, path: str, body: bytes = b"", content_type: str | None = None
    ) -> httpx2.Request:
        headers = {} if content_type is None else {"Content-Type": content_type}
        if len(body) > PIECE_BYTES:
            headers["Content-Length"] = str(len(body))
        content = _Pieces(body) if len(body) > PIECE_BYTES else body or None
        request = self._http.build_request(method, path, content=content, headers=headers)
        # In a thread: the proof holds the hash of a body of up to a MiB, or of one very long line.
        signature = await asyncio.to_thread(
            proof.make,
            self._key,
            proxy=self._name,
            method=method,
            path=request.url.raw_path.decode(),
            body=body,
            now=time.time(),
        )
        request.headers["Authorization"] = f"{proof.SCHEME} {signature}"
        return request

    async def _open(self, request: httpx2.Request) -> httpx2.Response:
        """The answer, its body still to be read, where it is a good one."""
        response = await self._http.send(request, stream=True)
        if response.status_code in SUCCESS:
            return response
        try:
            shown = (await _body(response)).decode(errors="replace")[:SHOWN_CHARACTERS]
            raise ControlError(f"control answered {response.status_code}: {shown!r}", status=response.status_code)
        finally:
            await response.aclose()

    async def _exchange(self, request: httpx2.Request) -> bytes:
        try:
            size = int(request.headers.get("Content-Length", "0"))
            async with asyncio.timeout(EXCHANGE_S + size / SLOWEST_BYTES_PER_S):
                response = await self._open(request)
                try:
                    return await _body(response)
                finally:
                    await response.aclose()
        except (httpx2.HTTPError, OSError) as error:  # TimeoutError is an OSError
            raise _unreachable(error) from error


async def _body(response: httpx2.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > ANSWER_BYTES:
            raise ControlError(f"control's answer is longer than {ANSWER_BYTES} bytes", status=response.status_code)
    return bytes(body)


async def _lines(response: httpx2.Response, silence_s: float) -> AsyncGenerator[bytes, None]:
    """Whole lines, without their newlines. Raises ControlError where one is too long, or none comes for `silence_s`."""
    rest = bytearray()
    heard = time.monotonic()
    async for chunk in response.aiter_bytes():
        searched = len(rest)
        rest += chunk
        if rest.find(b"\n", searched) >= 0:
            *lines, last = bytes(rest).split(b"\n")
            rest = bytearray(last)
            heard = time.monotonic()
            for line in lines:
                yield line
        elif len(rest) > LINE_BYTES or time.monotonic() - heard > silence_s:
            raise ControlError(f"no whole directive within {silence_s} s and {LINE_BYTES} bytes")


def _decoded(decoder: msgspec.json.Decoder[Answer], body: bytes) -> Answer:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ControlError(f"control's answer is not what was expected: {error}") from error


def _unreachable(error: Exception) -> ControlError:
    return ControlError(f"control cannot be reached: {str(error) or type(error).__name__}")
