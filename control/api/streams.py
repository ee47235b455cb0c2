"""A response that is streamed and may have no end.

Starlette's own cancels its source when the client goes, perhaps in the midst of a query. This one asks the source for
one piece after the other, and stops between two.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from control.tasks import spawn

SEND_S = 30
"""A client that takes nothing for so long is not there any more."""
NDJSON = "application/x-ndjson"
PIECE = 64 * 1024


class Stream(Response):
    """Sends the pieces of `source` as they come."""

    def __init__(
        self, source: AsyncIterator[bytes], *, media_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(media_type=media_type, headers=headers)
        del self.headers["content-length"]
        self._source = source

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; returns when it is through or the client has gone."""
        gone = asyncio.Event()
        watcher = spawn("watch for the client's leaving", _watch(receive, gone))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for piece in self._source:
                if gone.is_set():
                    return
                async with asyncio.timeout(SEND_S):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            return
        finally:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
            if isinstance(self._source, AsyncGenerator):
                await self._source.aclose()


async def _watch(receive: Receive, gone: asyncio.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    gone.set()


async def gathered(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in fewer pieces: each piece is a write to a TLS socket."""
    held = bytearray()
    async for piece in pieces:
        held += piece
        if len(held) >= PIECE:
            yield bytes(held)
            held.clear()
    yield bytes(held)
