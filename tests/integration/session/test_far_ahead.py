"""A client that asks for far more in one go than is kept open at PostgreSQL: it hangs nowhere where it would not there.

PostgreSQL keeps its answers back up to a Sync, up to 8 kB of them; behind an error it has none up to a Sync, and none
to whatever comes within COPY.
"""

import pytest

from proxy.wire.owed import MOST_OPEN
from tests.harness.proxy import Proxy
from tests.harness.wire import COPY_DONE, SYNC, Wire, bind, execute, parse, query

MANY = 2 * MOST_OPEN
FAR_AHEAD = {
    "one round": (parse("SET lock_timeout = 0") + (bind() + execute()) * MANY + SYNC, "Z", "2C"),
    "behind an error": (parse("nonsense") + (bind() + execute()) * MANY + SYNC, "Z", "E"),
    "rounds": ((bind(name="none") + SYNC) * MANY, "Z" * MANY, "E"),
    "Syncs within COPY": (query("COPY sink FROM STDIN") + SYNC * MANY + COPY_DONE, "Z", "GC"),
}


@pytest.mark.parametrize(("asked", "ready", "others"), FAR_AHEAD.values(), ids=FAR_AHEAD)
async def test_it_is_answered(proxy: Proxy, asked: bytes, ready: str, others: str) -> None:
    """All of it, though the client reads nothing before it has said all."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token())
        await wire.run("CREATE TEMP TABLE sink (line text)")
        wire.send(asked)
        await wire.drain()
        kinds = "".join([one.kind for _ in ready for one in await wire.until("Z", within=30)])
        assert kinds.count("Z") == len(ready)
        assert set(kinds) - {"Z", "1"} == set(others)
        assert await wire.value("SELECT 1") == "1"
