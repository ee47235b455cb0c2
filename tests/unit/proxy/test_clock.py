"""Deadlines on the wall clock, with both clocks in the test's hand."""

import asyncio
import time
from typing import Any

import pytest

from proxy.clock import Deadlines
from proxy.tasks import spawn
from tests.harness.waiting import eventually


class Clocks:
    """Deadlines, what they called, and the two clocks, which start as the machine's."""

    def __init__(self) -> None:
        self.deadlines = Deadlines()
        self.called: list[str] = []
        self.wall, self.monotonic = time.time(), time.monotonic()

    def at(self, seconds: float, name: str) -> Any:  # noqa: ANN401 a Deadline
        """Note `name` in so many seconds."""
        return self.deadlines.at(self.wall + seconds, lambda: self.called.append(name))

    async def pass_by(self, *, wall: float = 0.0, monotonic: float = 0.0) -> float | None:
        """Let the clocks go on so far, and what is due be called."""
        self.wall += wall
        self.monotonic += monotonic
        wait = self.deadlines.fire(wall=self.wall, monotonic=self.monotonic)
        await asyncio.sleep(0)
        return wait


@pytest.fixture
async def clocks() -> Clocks:
    """Deadlines of which none is set."""
    return Clocks()


async def test_due_at_its_time(clocks: Clocks) -> None:
    """Not before, once, and then no more."""
    clocks.at(10, "a")
    assert await clocks.pass_by(wall=9, monotonic=9) == pytest.approx(1, abs=0.1)
    assert clocks.called == []
    assert await clocks.pass_by(wall=1.1, monotonic=1.1) is None
    assert clocks.called == ["a"]
    await clocks.pass_by(wall=100, monotonic=100)
    assert clocks.called == ["a"]


async def test_order(clocks: Clocks) -> None:
    """Whatever the order they were set in; those of one moment in that order."""
    for seconds, name in ((3, "c"), (1, "a"), (2, "b"), (1, "a2")):
        clocks.at(seconds, name)
    await clocks.pass_by(wall=5, monotonic=5)
    assert clocks.called == ["a", "a2", "b", "c"]


async def test_the_wall_clock_jumps_forward(clocks: Clocks) -> None:
    """A grant that has ended by the clock on the wall has ended."""
    clocks.at(3600, "end")
    await clocks.pass_by(wall=3601, monotonic=1)
    assert clocks.called == ["end"]
    await clocks.pass_by(wall=1, monotonic=7200)
    assert clocks.called == ["end"]


async def test_the_wall_clock_jumps_back(clocks: Clocks) -> None:
    """Setting the clock back prolongs nothing."""
    clocks.at(3600, "end")
    assert await clocks.pass_by(wall=-86_400, monotonic=3599) == pytest.approx(1, abs=0.1)
    await clocks.pass_by(wall=1, monotonic=2)
    assert clocks.called == ["end"]
    await clocks.pass_by(wall=200_000, monotonic=1)
    assert clocks.called == ["end"]


async def test_after_a_jump_back_the_next_one_is_told_rightly(clocks: Clocks) -> None:
    """What has been called by one clock does not count as the next by the other."""
    clocks.at(10, "a")
    clocks.at(20, "b")
    assert await clocks.pass_by(wall=-1000, monotonic=11) == pytest.approx(9, abs=0.1)
    assert clocks.called == ["a"]


async def test_cancelled(clocks: Clocks) -> None:
    """Not called by either clock; another one of the same moment is. Twice is as good as once."""
    kept, dropped = clocks.at(1, "kept"), clocks.at(1, "dropped")
    dropped.cancel()
    dropped.cancel()
    await clocks.pass_by(wall=2, monotonic=2)
    kept.cancel()
    assert clocks.called == ["kept"]


async def test_cancelled_ones_do_not_pile_up(clocks: Clocks) -> None:
    """Thousands of short sessions under one long grant leave nothing behind."""
    last = clocks.at(28_800, "kept")
    for _ in range(20_000):
        clocks.at(28_800, "gone").cancel()
    assert clocks.deadlines.pending < 5_000
    await clocks.pass_by(wall=30_000, monotonic=1)
    assert clocks.called == ["kept"]
    assert last.callback is None


async def test_one_that_raises_does_not_stop_the_others(clocks: Clocks) -> None:
    """A fault is the loop's to report, and the next deadline is kept."""
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))

    def fail() -> None:
        raise ValueError("no")

    clocks.deadlines.at(clocks.wall + 1, fail)
    clocks.at(1, "after")
    await clocks.pass_by(wall=2, monotonic=2)
    assert clocks.called == ["after"]
    assert isinstance(faults[0]["exception"], ValueError)


async def test_set_in_a_callback(clocks: Clocks) -> None:
    """A deadline may set the next one, and take another one back."""
    other = clocks.at(3, "other")

    def first() -> None:
        other.cancel()
        clocks.at(2, "next")

    clocks.deadlines.at(clocks.wall + 1, first)
    await clocks.pass_by(wall=1.5, monotonic=1.5)
    await clocks.pass_by(wall=5, monotonic=5)
    assert clocks.called == ["next"]


async def test_run() -> None:
    """The task wakes for what is due, also for one that is set while it waits for a later one."""
    deadlines = Deadlines()
    called: list[str] = []
    task = spawn("deadlines", deadlines.run())
    try:
        await asyncio.sleep(0)
        deadlines.at(time.time() + 60, lambda: called.append("late"))
        await asyncio.sleep(0)
        deadlines.at(time.time() + 0.01, lambda: called.append("soon"))
        deadlines.at(time.time() - 60, lambda: called.append("past"))
        await eventually(lambda: len(called) == 2)
        assert called == ["past", "soon"]
    finally:
        task.cancel()


async def test_run_notices_a_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a tick of the wall clock's jump, with a deadline hours away."""
    deadlines = Deadlines()
    called: list[str] = []
    deadlines.at(time.time() + 7200, lambda: called.append("end"))
    task = spawn("deadlines", deadlines.run())
    try:
        await asyncio.sleep(0)
        now = time.time() + 7201
        monkeypatch.setattr("proxy.clock.time.time", lambda: now)
        await eventually(lambda: called, within=2)
    finally:
        task.cancel()
