"""Many clients of a proxy that wait to be told that it is over, as a process of their own.

As a command (`python -m tests.bench.stop.clients`) it is given PORT CA-FILE COUNT and tokens' file, a token a line; it
prints `there` once all of them are in a session, and in the end a line of JSON: for each when it was told, and when its
connection was closed (seconds since the epoch, null where it was not).
"""

import asyncio
import json
import ssl
import sys
import time
from pathlib import Path

import uvloop

from tests.harness.wire import Wire

AT_ONCE = 20
WITHIN_S = 300.0


async def one(wire: Wire) -> tuple[float | None, float | None]:
    """When this client was told, and when its connection ended."""
    told: float | None = None
    try:
        while True:
            said = await wire.read(within=WITHIN_S)
            if said.kind == "E" and said.fields["C"] == "57P01":
                told = time.time()
    except (EOFError, ConnectionError, ssl.SSLError):
        return told, time.time()
    except AssertionError:
        return told, None


async def main(port: int, ca_file: str, tokens: list[str]) -> None:
    """Connect all, and wait."""
    gate = asyncio.Semaphore(AT_ONCE)
    context = ssl.create_default_context(cafile=ca_file)

    async def connect(token: str) -> Wire:
        async with gate:
            wire = await Wire.tls(port, context)
            await wire.log_in(token)
            return wire

    wires = await asyncio.gather(*map(connect, tokens))
    _say("there")
    ends = await asyncio.gather(*map(one, wires))
    _say(json.dumps(ends))
    for wire in wires:
        wire.cut()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]).read_text().split()))
