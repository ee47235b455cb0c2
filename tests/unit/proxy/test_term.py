"""A session's time: the end, the warnings before it, and what an extension does to both, with the clocks in hand."""

import asyncio
import time

import pytest

from proxy.clock import Deadlines
from proxy.term import Term


class Stand:
    """A term of 100 s with warnings 60 and 10 s before its end, and what it called."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.start = time.time()
        self._monotonic = time.monotonic()
        self._deadlines = Deadlines()
        self.term = Term(
            self._deadlines,
            ends_at=self.start + 100,
            warn_before_s=[60.0, 10.0, 3600.0],
            on_end=lambda: self.called.append("end"),
            on_warning=lambda seconds: self.called.append(f"{seconds:.0f}"),
        )

    def fire(self, at: float) -> None:
        """What is due `at` seconds after the start is on its way."""
        self._deadlines.fire(wall=self.start + at, monotonic=self._monotonic + at)

    async def pass_to(self, at: float) -> list[str]:
        """The same, and it has arrived: all that was called so far."""
        self.fire(at)
        await asyncio.sleep(0)
        return self.called


@pytest.fixture
async def stand() -> Stand:
    """It has just begun."""
    return Stand()


async def test_warnings_then_the_end(stand: Stand) -> None:
    """Those whose time was past at the start are passed over."""
    assert await stand.pass_to(39) == []
    assert await stand.pass_to(41) == ["60"]
    assert await stand.pass_to(91) == ["60", "10"]
    assert await stand.pass_to(101) == ["60", "10", "end"]
    assert await stand.pass_to(1000) == ["60", "10", "end"]


async def test_an_extension(stand: Stand) -> None:
    """The end and all warnings are those of the new end."""
    await stand.pass_to(50)
    assert stand.term.extend(stand.start + 1000)
    assert await stand.pass_to(120) == ["60"]
    assert await stand.pass_to(941) == ["60", "60"]
    assert await stand.pass_to(1001) == ["60", "60", "10", "end"]


async def test_the_end_never_comes_sooner(stand: Stand) -> None:
    """Nor is a deadline lost by asking."""
    for end in (stand.start + 100, stand.start + 99, 0.0, -1e300):
        assert not stand.term.extend(end)
    assert await stand.pass_to(101) == ["60", "10", "end"]


@pytest.mark.parametrize("moved", [False, True])
async def test_an_extension_that_races_with_the_end(stand: Stand, moved: bool) -> None:  # noqa: FBT001 a parameter of pytest's
    """Whichever is first decides, and one end is left in either case."""
    stand.fire(101)  # The callback is on its way, and nobody has been told yet.
    if not moved:
        await asyncio.sleep(0)
    assert stand.term.extend(stand.start + 200) is moved
    ends = (await stand.pass_to(150)).count("end")
    assert ends == (0 if moved else 1)
    assert (await stand.pass_to(201)).count("end") == 1


async def test_a_warning_that_races_with_an_extension(stand: Stand) -> None:
    """Nobody is warned of an end that has just been moved."""
    stand.fire(41)
    stand.term.extend(stand.start + 1000)
    assert await stand.pass_to(50) == []


async def test_an_extension_into_the_past(stand: Stand) -> None:
    """Later than the end was, and over all the same: it ends once."""
    stand.fire(101)
    assert stand.term.extend(stand.start + 101)
    assert (await stand.pass_to(102)).count("end") == 1
    assert (await stand.pass_to(1000)).count("end") == 1


async def test_closed(stand: Stand) -> None:
    """Nothing is called any more, what was on its way included, and nothing can be moved."""
    stand.fire(101)
    stand.term.close()
    assert not stand.term.extend(stand.start + 1000)
    assert await stand.pass_to(2000) == []
