"""Rows longer than any buffer: they stream through, and are not the proxy's to hold (PROTOCOL.md, row 61)."""

import struct

import pytest

from tests.conftest import MakeProxy, Watcher
from tests.harness.postgres import Cluster
from tests.harness.waiting import eventually
from tests.harness.wire import Wire, query

SIZE = 100_000_000
STEPS = 10
CUT_BYTES = 50_000_000
"""More than what lies between the client and PostgreSQL takes."""
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


async def test_a_row_that_is_cut_by_the_end(make_proxy: MakeProxy, postgres: Cluster, watcher: Watcher) -> None:
    """The backend dies in the middle of it: nothing is put behind its half, or it would count as the rest."""
    proxy = make_proxy(postgres, options={"warn_before_s": []})
    async with proxy.wire(proxy.token(lasts_s=3)) as wire:
        wire.send(query(f"SELECT repeat('x', {CUT_BYTES})"))
        await wire.until("T")
        await eventually(lambda: [one.reason for one in proxy.ended()] == ["expired"], within=30)
        assert not await watcher.fetch("SELECT FROM pg_stat_activity WHERE pid = $1", wire.pid)
        assert await wire.exactly(1) == b"D"
        assert int.from_bytes(await wire.exactly(4)) > CUT_BYTES
        await wire.exactly(6)
        half = await wire.bytes_left(within=30)
    assert 0 < len(half) < CUT_BYTES
    assert half.strip(b"x") == b""
