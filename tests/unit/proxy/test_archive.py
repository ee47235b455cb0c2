"""The closed segments: what they add up to, and which may go."""

import time
from pathlib import Path

import pytest

from proxy import segments
from proxy.archive import Archive
from proxy.retention import Retention

SIZE = 100


def made(directory: Path, count: int = 4, *, retention_s: float = 0) -> Archive:
    """Segments 1 to `count`, closed just now."""
    archive = Archive(directory, Retention(retention_s, wall=time.time, elapsed=lambda: 0.0))
    for number in range(1, count + 1):
        segments.path_of(directory, number).write_bytes(b"x" * SIZE)
        archive.closed(number, SIZE)
    return archive


def test_sums(tmp_path: Path) -> None:
    """All of them, those from one on, and those before one that must stay."""
    archive = made(tmp_path, retention_s=60)
    assert (archive.first, archive.total_bytes) == (1, 4 * SIZE)
    assert archive.bytes_from(3) == 2 * SIZE
    assert archive.retained_bytes(before=4) == 3 * SIZE
    assert Archive(tmp_path, Retention(0)).first is None


def test_what_a_start_finds(tmp_path: Path) -> None:
    """Has its file's size and age."""
    made(tmp_path, 1)
    archive = Archive(tmp_path, Retention(0))
    archive.found(1)
    assert (archive.total_bytes, archive.retained_bytes(before=2)) == (SIZE, 0)
    with pytest.raises(FileNotFoundError):
        archive.found(2)


@pytest.mark.parametrize(("excess", "left"), [(0, 4), (1, 3), (SIZE, 3), (SIZE + 1, 2), (3 * SIZE, 1)])
def test_the_oldest_go_first_and_no_more_than_needed(tmp_path: Path, excess: int, left: int) -> None:
    """Their files with them."""
    archive = made(tmp_path)
    assert archive.make_way(excess, before=5)
    assert archive.total_bytes == left * SIZE
    assert segments.numbers(tmp_path) == list(range(5 - left, 5))


def test_what_is_needed_stays(tmp_path: Path) -> None:
    """Those from `before` on, whatever the excess."""
    archive = made(tmp_path)
    assert not archive.make_way(4 * SIZE, before=3)
    assert segments.numbers(tmp_path) == [3, 4]


def test_what_is_young_stays(tmp_path: Path) -> None:
    """And so does all behind it."""
    archive = made(tmp_path, retention_s=60)
    assert not archive.make_way(1, before=5)
    assert archive.total_bytes == 4 * SIZE


def test_what_cannot_be_deleted_counts(tmp_path: Path) -> None:
    """Its bytes are not free, and none behind it goes in its place."""
    archive = made(tmp_path)
    stuck = segments.path_of(tmp_path, 1)
    stuck.unlink()
    stuck.mkdir()
    assert not archive.make_way(1, before=5)
    assert archive.total_bytes == 4 * SIZE


def test_what_an_operator_has_moved_away_counts_no_more(tmp_path: Path) -> None:
    """Once somebody looks."""
    archive = made(tmp_path)
    segments.path_of(tmp_path, 2).unlink()
    archive.look_again()
    assert archive.total_bytes == 3 * SIZE
