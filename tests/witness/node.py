"""node-postgres: its program, `client.cjs`, with the library that `python -m tests.clients` builds."""

import asyncio
from pathlib import Path

from tests.clients.programs import CACHE, named
from tests.clients.stand import Stand
from tests.harness.processes import run

_PROGRAM = Path(__file__).with_name("client.cjs")


def lacks() -> str | None:
    """What has to be installed first."""
    return named(["node-postgres"])[0].skip()


async def use(stand: Stand, _: Path) -> None:
    """Run it."""
    modules = {"NODE_PATH": str(CACHE / "node" / "node_modules")}
    await asyncio.to_thread(run, ["node", _PROGRAM], environment={**stand.environment, **modules})
