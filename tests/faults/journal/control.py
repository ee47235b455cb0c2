"""`curfew-control`, whose answers to records go wrong as a file says: the command that the campaign starts instead.

All of it is the real service; only what surrounds the one route is not. The file, named by $CURFEW_FAULTS, has words;
each post of records is treated by one of them:

| word | what happens |
|---|---|
| `well` | what always happens |
| `refused` | 500, and nothing is stored |
| `slow` | it takes its time, then stores |
| `lost` | stored, and 500 all the same |
| `cut` | stored, and the connection closed in the middle of the answer |
"""

import asyncio
import os
import random
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from unittest.mock import patch

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control import app, server
from control.cli import main
from control.services import Services

SLOW_S = (0.2, 1.5)
_START, _BODY = "http.response.start", "http.response.body"


class Faulty:
    """The application, and what goes wrong around it."""

    def __init__(self, app: ASGIApp, orders: Path) -> None:
        self._app = app
        self._orders = orders
        self._treat: dict[str, Callable[[Scope, Receive, Send], Awaitable[None]]] = {
            "well": app,
            "refused": self._refuse,
            "slow": self._dawdle,
            "lost": self._lose,
            "cut": self._cut,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        treated = scope["type"] == "http" and scope["path"] == "/v1/records"
        words = self._orders.read_text().split() if treated else []
        await self._treat[random.choice(words or ["well"])](scope, receive, send)

    async def _refuse(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": _START, "status": 500, "headers": [(b"content-length", b"0")]})
        await send({"type": _BODY})

    async def _dawdle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(random.uniform(*SLOW_S))  # that is what slow is
        await self._app(scope, receive, send)

    async def _lose(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def swallow(_: Message) -> None:
            """Nobody hears it."""

        await self._app(scope, receive, swallow)
        await self._refuse(scope, receive, send)

    async def _cut(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def half(message: Message) -> None:
            if message["type"] == _BODY:
                said = message.get("body", b"")
                message = {**message, "body": said[: len(said) // 2], "more_body": True}
            await send(message)

        await self._app(scope, receive, half)  # uvicorn hangs up, since the answer's length is not what was promised


def launch() -> int:
    """Run the command."""

    def faulty(services: Services) -> ASGIApp:
        return Faulty(app.create_app(services), Path(os.environ["CURFEW_FAULTS"]))

    with patch.object(server, "create_app", faulty):
        main()
    return 0


if __name__ == "__main__":
    sys.exit(launch())
