"""Extension: a session goes on past the end that it began with; the person is told, and it is on record."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.contract.directive import Extend, Extension
from proxy.contract.record import GrantExtended, Notice, SessionStart
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import new_grant_id
from tests.harness.waiting import eventually
from tests.harness.wire import query
from tests.integration.session.governed import Governed, now_ns


@pytest.fixture
async def governed(postgres: Cluster, ca: Authority, tmp_path: Path) -> AsyncIterator[Governed]:
    """A proxy under a control of the test's, that warns half a second before an end."""
    async with Governed(postgres, ca, tmp_path, options={"warn_before_s": [0.5]}) as stand:
        yield stand


def extend(grant: str, end: float) -> Extend:
    """By eve."""
    return Extend(cursor=1, at=now_ns(), extension=Extension(grant=grant, expires_at=end, by="eve", decided_at=1))


def utc(end: float) -> str:
    """As the person reads it."""
    return datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


async def test_an_extension(governed: Governed) -> None:
    """In the middle of a result, between two messages: a notice; then a warning and the end at the new times only."""
    grant, begun = new_grant_id(), time.time()
    async with await governed.log_in(grant, lasts_s=3) as wire:  # Ends at a whole second: 2 to 3 s from now.
        wire.send(query("SELECT n, pg_sleep(0.001), repeat('x', 5000) FROM generate_series(1, 1000000) n"))
        await wire.until("D")
        end = int(begun) + 3.75
        for told in ("grt_unknown", grant):
            governed.control.tell(extend(told, end))
        governed.control.tell(extend(grant, end - 1))
        said = [one for one in await wire.rest() if one.kind in "NE"]
        ended = time.time()
    assert [one.fields["V"] for one in said] == ["NOTICE", "WARNING", "FATAL"]
    assert said[0].fields["M"] == f"access to orders now ends at {utc(end)} (grant {grant}, extended by eve)"
    assert "ends in 0 s" in said[1].fields["M"]
    assert "the grant has expired" in said[2].fields["M"]
    assert end < ended < end + 1
    records = await governed.records(grant)
    (moved,) = [one for one in records if isinstance(one, GrantExtended)]
    assert (moved.grant, moved.expires_at, moved.by) == (grant, int(end * 1e9), "eve")
    assert [one.severity for one in records if isinstance(one, Notice)] == ["NOTICE", "WARNING"]
    last = await governed.last(grant)
    assert end <= last.decided_at / 1e9 < end + 0.5


async def test_an_older_token_of_an_extended_grant(governed: Governed) -> None:
    """What it admits runs to the extended end, of a proxy that was started anew and hears it in the snapshot too."""
    grant, now = new_grant_id(), time.time()
    end = int(now) + 4.0
    governed.control.tell(extend(grant, end))
    kept = governed.proxy.state / "joined.json"
    await eventually(lambda: kept.exists() and grant.encode() in kept.read_bytes())
    async with await governed.log_in(grant, lasts_s=2) as wire:
        assert await wire.value("SELECT 1") == "1"
        said = (await wire.rest())[-1]
        assert end < time.time() < end + 1
    assert "the grant has expired" in said.fields["M"]
    records = await governed.records(grant)
    start, moved = records[:2]
    assert isinstance(start, SessionStart)
    assert isinstance(moved, GrantExtended)
    assert start.expires_at < moved.expires_at == int(end * 1e9)
