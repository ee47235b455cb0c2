"""Rows longer than any buffer: they stream through, and are not the proxy's to hold (PROTOCOL.md, row 61)."""

import struct

import pytest

from tests.conftest import MakeProxy
from tests.harness.postgres import Cluster
from tests.harness.wire import Wire, query

SIZE = 100_000_000
STEPS = 10
HELD_BYTES = 8_000_000
"""What the process may grow by: the kernel's buffers are not its own."""
SAYING = {
    "a field": (f"SELECT repeat('x', {SIZE})", "D"),
    "a line of COPY": (f"COPY (SELECT repeat('x', {SIZE})) TO STDOUT", "d"),
}


@pytest.mark.parametrize(("sql", "kind"), SAYING.values(), ids=SAYING)
async def test_a_row_of_100_mb(make_proxy: MakeProxy, postgres: Cluster, sql: str, kind: str) -> None:
    """Read little by little: at no time has the proxy more of it than a moment's worth."""
    proxy = make_proxy(postgres)
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token())
        await wire.run("SELECT repeat('x', 1000000)")
        before = proxy.resident_bytes()
        wire.send(query(sql))
        await wire.read(within=30)  # What announces it.
        header, length = struct.unpack("!ci", await wire.exactly(5))
        assert (header, length > SIZE) == (kind.encode(), True)
        left, grown = length - 4, []
        while left:
            step = min(left, SIZE // STEPS)
            await wire.skip(step)
            left -= step
            grown.append(proxy.resident_bytes() - before)
        assert [one.kind for one in await wire.until("Z")] == (["C", "Z"] if kind == "D" else ["c", "C", "Z"])
    assert max(grown) < HELD_BYTES
