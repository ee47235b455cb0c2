"""A short run of `python -m tests.bench pressure`. Bounds are wide: the suite's machine does other things as well."""

import os
from collections.abc import Callable, Iterator

import pytest

from tests.bench import __main__ as bench
from tests.bench.pressure import command, copies, crowds, fairness, load, memory, stand
from tests.bench.pressure.finding import Finding, percentile
from tests.bench.pressure.stand import Stand

SESSIONS = 8
MEMORY_KB = 256
"""For each: what is aimed at, and a small part of what is not taken."""
LONG_MB = 64
BESIDE_MS = 500.0
"""A query beside a bulk transfer, at the median."""
TIMES = 20.0


@pytest.fixture(scope="module")
def pressed() -> Iterator[Stand]:
    """A PostgreSQL for this file."""
    with stand.ready() as ready:
        yield ready


@pytest.mark.parametrize(("make", "tls"), [(memory.unread, True), (memory.untaken, False)])
async def test_what_is_not_taken_is_not_held(pressed: Stand, make: Callable[[], memory.Load], *, tls: bool) -> None:
    """Neither a result that the client leaves unread nor a COPY that PostgreSQL does is the proxy's to keep."""
    with pressed.proxy(tls=tls) as way:
        _, grown = await memory.growth_kb(way, make(), SESSIONS)
    assert grown < MEMORY_KB * SESSIONS


@pytest.mark.parametrize("kind", copies.KINDS)
async def test_a_long_copy_is_on_record_and_not_in_memory(pressed: Stand, kind: str) -> None:
    """What of it is recorded is its very bytes; `python -m tests.bench pressure copies` does it with 1 GB."""
    found = await copies.measured(pressed, kind, LONG_MB, lambda _: None)
    assert [one.what for one in found if one.missed] == []
    assert len(found) == 4


@pytest.mark.parametrize("loader", [load.copy_out, load.copy_in])
async def test_a_query_beside_a_copy(pressed: Stand, loader: fairness.Loader) -> None:
    """It is answered as soon as the machine allows, not when the COPY is done."""
    with pressed.proxy(tls=True) as way:
        times = await fairness.interleaved(way, loader, rounds=1, samples=50)
    assert len(times.proxied[0]) == len(times.proxied[1]) == 50
    assert percentile(times.proxied[1], 0.5) < BESIDE_MS, str(times)


async def test_a_query_beside_a_pipeline(pressed: Stand) -> None:
    """The same beside thousands of tiny queries that nobody waits for."""
    with pressed.proxy(tls=True) as way:
        times = await fairness.interleaved(way, lambda way: load.pipeline(way, 5_000), rounds=1, samples=20, whole=True)
    assert times.proxied[1]
    assert percentile(times.proxied[1], 0.5) < BESIDE_MS, str(times)


async def test_a_login_under_a_crowd(pressed: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slow ones here are of some hundred milliseconds a byte, and stay for the test."""
    monkeypatch.setattr(crowds, "LOGINS", 3)
    monkeypatch.setattr(crowds, "DRIP_S", 0.5)
    said: list[str] = []
    with pressed.proxy(tls=True, max_unauthenticated_per_address=200) as way:
        times, grown = await crowds.under(way, "100 slow ones", 100, slow=True, say=said.append)
    assert grown.measured < crowds.AIM_MB
    assert times.measured < TIMES
    assert len(said) == 1


async def test_without_descriptors(pressed: Stand) -> None:
    """Every login is served."""
    with pressed.proxy(tls=True) as way:
        (failed,) = await crowds.exhausted(way, lambda _: None)
    assert not failed.missed


@pytest.mark.parametrize("measured", [5.0, 5.1])
def test_a_miss_is_said(capsys: pytest.CaptureFixture[str], measured: float) -> None:
    """A line for each figure, and exit code 1 where one is more than it may be."""
    found = [Finding(what="one", measured=9, unit="KB"), Finding(what="two", measured=measured, unit="ms", aim=5)]
    assert command.report(found) == int(measured > 5)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["one", "9.00"], ["two", f"{measured:.2f}"]]
    assert lines[-1].endswith("MISSED") == (measured > 5)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) == 1, reason="there is but one processor")
def test_a_core_of_its_own() -> None:
    """The proxy has it to itself, while it is measured."""
    usable = os.sched_getaffinity(0)
    with stand.ready(own_core=True) as made, made.proxy(tls=False) as way:
        assert way.proxy.process is not None
        assert os.sched_getaffinity(way.proxy.process.pid) == {made.core}
        assert os.sched_getaffinity(0) == usable - {made.core}
    assert os.sched_getaffinity(0) == usable


def test_the_command_knows_its_parts(capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m tests.bench pressure` is led to it, and says what there is."""
    with pytest.raises(SystemExit) as caught:
        bench.main(["pressure", "nothing"])
    assert caught.value.code == 2
    assert "'memory', 'copies', 'fairness', 'crowds'" in capsys.readouterr().err


def test_a_share_of_values() -> None:
    """The p99 of a hundred values is the last one."""
    assert percentile([float(n) for n in range(100)], 0.99) == 99
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2
