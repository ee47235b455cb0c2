"""How long the journal keeps what control has: never less than it was told, whatever the clock does."""

import itertools
import os
from pathlib import Path

import pytest

from proxy import segments
from proxy.journal import Journal, JournalError
from proxy.retention import Retention
from proxy.segments import Position
from tests.unit.proxy.journals import open_journal, stored

HOUR_S = 3_600.0
LINE = b"x" * 99


class Clocks:
    """The machine's two, and hands to move them."""

    def __init__(self) -> None:
        self.wall, self.elapsed = 1_000_000.0, 50.0

    def pass_by(self, seconds: float) -> None:
        """Time goes by."""
        self.wall += seconds
        self.elapsed += seconds

    def retention(self, seconds: float) -> Retention:
        """One that starts now."""
        return Retention(seconds, wall=lambda: self.wall, elapsed=lambda: self.elapsed)


def test_its_age() -> None:
    """Counts from the last line on, of each segment by itself."""
    clocks = Clocks()
    retention = clocks.retention(10)
    retention.closed(1)
    clocks.pass_by(6)
    retention.closed(2)
    clocks.pass_by(4)
    assert (retention.is_over(1), retention.is_over(2), retention.is_over(3)) == (True, False, False)


def test_none() -> None:
    """Zero keeps nothing."""
    retention = Clocks().retention(0)
    retention.closed(1)
    assert retention.is_over(1)


@pytest.mark.parametrize("step", [HOUR_S, -HOUR_S])
def test_a_step_of_the_clock(step: float) -> None:
    """Makes nothing old, and nothing young."""
    clocks = Clocks()
    retention = clocks.retention(10)
    retention.found(1, clocks.wall - 5)
    retention.closed(2)
    clocks.wall += step
    assert not retention.is_over(1)
    clocks.pass_by(5)
    assert (retention.is_over(1), retention.is_over(2)) == (True, False)
    clocks.pass_by(5)
    assert retention.is_over(2)


def test_a_file_from_the_future() -> None:
    """Its clock was ahead: it counts from the start on."""
    clocks = Clocks()
    retention = clocks.retention(10)
    retention.found(1, clocks.wall + HOUR_S)
    clocks.pass_by(9)
    assert not retention.is_over(1)
    clocks.pass_by(1)
    assert retention.is_over(1)


def fill(journal: Journal) -> int:
    """Up to the limit; how many lines it took."""
    for count in itertools.count():
        try:
            journal.append(LINE)
        except JournalError:
            return count
    raise AssertionError


async def test_what_must_stay_stays(tmp_path: Path) -> None:
    """Control has all of it, and there is no room: statements are refused, with the reason; nothing is deleted."""
    journal = open_journal(tmp_path, segment_bytes=1_000, limit_bytes=10_000, retention_s=HOUR_S)
    fill(journal)
    there, lines = segments.numbers(tmp_path), len(stored(tmp_path))
    await journal.acknowledge(Position(there[-1], 0))
    assert journal.retained_bytes == journal.total_bytes - journal.position.offset
    with pytest.raises(JournalError, match=r"limit_bytes.*retention_s"):
        journal.flush()
    assert (segments.numbers(tmp_path), len(stored(tmp_path))) == (there, lines)
    with pytest.raises(JournalError):
        journal.close()


@pytest.mark.parametrize("aged", [0, 2, 99])
async def test_after_a_start(tmp_path: Path, aged: int) -> None:
    """It holds as well: only files whose last line is old enough make way, the oldest first."""
    journal = open_journal(tmp_path, segment_bytes=1_000, limit_bytes=10_000, retention_s=HOUR_S)
    while journal.total_bytes < 9_900:
        journal.append(LINE)
    there = segments.numbers(tmp_path)
    await journal.acknowledge(Position(there[-1], 0))
    journal.close()
    for number in there[:aged]:
        path = segments.path_of(tmp_path, number)
        old = path.stat().st_mtime - HOUR_S
        os.utime(path, (old, old))
    journal = open_journal(tmp_path, segment_bytes=1_000, limit_bytes=10_000, retention_s=HOUR_S)
    taken = fill(journal)
    assert ("retention_s" if aged < 99 else "has not acknowledged") in (journal.fault or "")
    assert taken >= min(aged, 8) * 9
    assert segments.numbers(tmp_path)[0] == there[min(aged, len(there) - 1)]
    with pytest.raises(JournalError):
        journal.close()
