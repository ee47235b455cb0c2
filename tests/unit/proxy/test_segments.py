"""Reading the journal in batches of whole lines, for shipping."""

from pathlib import Path

import pytest

from proxy import segments
from proxy.segments import Batch, Position


def write(directory: Path, *bodies: bytes) -> Position:
    """Segments with these bodies; returns the end of the last."""
    for number, body in enumerate(bodies, 1):
        segments.path_of(directory, number).write_bytes(body)
    return Position(len(bodies), len(bodies[-1]))


def read_all(directory: Path, start: Position, end: Position, *, max_bytes: int, max_lines: int) -> list[Batch]:
    """Every batch from `start` to `end`."""
    batches = []
    while (batch := segments.read_batch(directory, start, end, max_bytes=max_bytes, max_lines=max_lines)) is not None:
        batches.append(batch)
        start = batch.after
    return batches


@pytest.mark.parametrize("max_bytes", [1, 7, 10, 64, 10_000])
@pytest.mark.parametrize("max_lines", [1, 3, 1000])
def test_batches_are_whole_lines_and_all_of_them(tmp_path: Path, max_bytes: int, max_lines: int) -> None:
    """Whatever the bounds, joined batches are the journal, and each keeps to the bounds."""
    bodies = [b"one\ntwo\nthree\n", b"", b"four\n" * 9, b"x" * 500 + b"\nlast\n"]
    end = write(tmp_path, *bodies)
    batches = read_all(tmp_path, Position(1, 0), end, max_bytes=max_bytes, max_lines=max_lines)
    assert b"".join(batch.body for batch in batches) == b"".join(bodies)
    for batch in batches:
        assert batch.body.endswith(b"\n")
        assert batch.body.count(b"\n") == batch.lines <= max_lines
        assert len(batch.body) <= max_bytes or batch.lines == 1
    assert batches[-1].after == end


def test_nothing_behind_the_writers_position_is_read(tmp_path: Path) -> None:
    """A write may be under way there."""
    write(tmp_path, b"one\ntwo\nhal")
    assert [batch.body for batch in read_all(tmp_path, Position(1, 0), Position(1, 8), max_bytes=99, max_lines=99)] == [
        b"one\ntwo\n"
    ]


def test_nothing_new_is_none(tmp_path: Path) -> None:
    """At the end there is no batch, nor where only empty segments follow."""
    end = write(tmp_path, b"one\n", b"")
    assert segments.read_batch(tmp_path, end, end, max_bytes=9, max_lines=9) is None
    assert segments.read_batch(tmp_path, Position(1, 4), end, max_bytes=9, max_lines=9) is None


def test_file_shorter_than_the_position_is_an_error(tmp_path: Path) -> None:
    """Somebody cut the file: that is said, not passed over."""
    write(tmp_path, b"on")
    with pytest.raises(OSError, match="no whole line"):
        segments.read_batch(tmp_path, Position(1, 0), Position(1, 4), max_bytes=9, max_lines=9)


def test_other_files_are_no_segments(tmp_path: Path) -> None:
    """Only names of the one form count."""
    write(tmp_path, b"one\n")
    for name in ("lock", "1.ndjson", "x" * 20 + ".ndjson", "acknowledged.json"):
        (tmp_path / name).write_bytes(b"")
    assert segments.numbers(tmp_path) == [1]
