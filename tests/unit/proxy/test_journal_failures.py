"""The journal when it cannot be written: it says no, keeps chains whole, and heals only where that is safe."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy import segments
from proxy.journal import KEPT_BYTES, Journal, JournalError
from proxy.segments import Position
from tests.unit.proxy.journals import begin, end_record, notice, open_journal, stored


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the journal goes; not made yet."""
    return tmp_path / "state" / "journal"


@pytest.fixture
def journal(directory: Path) -> Iterator[Journal]:
    """An open journal."""
    opened = open_journal(directory)
    yield opened
    opened.close()


async def test_limit_refuses_what_is_not_acknowledged_and_heals_when_it_is(directory: Path) -> None:
    """At limit_bytes every append fails; control's acknowledgement makes room, and the kept lines go first."""
    journal = open_journal(directory, segment_bytes=1000, limit_bytes=10_000)
    line = b"x" * 99
    for _ in range(100):
        journal.append(line)
    for _ in range(2):
        with pytest.raises(JournalError, match="limit_bytes"):
            journal.append(b"refused")
    with pytest.raises(JournalError):
        journal.flush()
    assert "limit_bytes" in str(journal.fault)
    await journal.acknowledge(Position(4, 0))
    journal.flush()
    assert not journal.fault
    journal.append(b"accepted")
    journal.close()
    assert segments.numbers(directory)[0] == 2
    assert stored(directory)[-3:] == [b"refused", b"refused", b"accepted"]


async def test_session_whose_start_is_refused_never_was(directory: Path) -> None:
    """Nothing of it is written when the journal heals, and it is not open: its connection was never let in."""
    journal = open_journal(directory, segment_bytes=1000, limit_bytes=10_000)
    chain = begin(journal, "before")
    while journal.fault is None:
        with contextlib.suppress(JournalError):
            journal.append(chain.seal(notice()))
    with pytest.raises(JournalError):
        begin(journal, "refused")
    with pytest.raises(JournalError):
        journal.append_end(chain, chain.seal_signed(end_record(), Ed25519PrivateKey.generate()))
    await journal.acknowledge(Position(4, 0))
    journal.flush()
    begin(journal, "after")
    journal.close()
    assert b"refused" not in b"".join(stored(directory))
    assert stored(directory)[-2].startswith(b'{"type":"session.end"')
    journal = open_journal(directory)
    assert list(journal.unfinished) == ["after"]
    journal.close()


def test_failed_write_shuts_the_journal_for_good(journal: Journal, directory: Path) -> None:
    """An I/O error is not retried: every append raises until the journal is opened anew. Here: a closed descriptor."""
    journal.append(b"one")
    os.close(journal._file)
    for _ in range(3):
        with pytest.raises(JournalError, match="restart the proxy"):
            journal.append(b"refused")
        with pytest.raises(JournalError):
            journal.append_lazily(b"refused")
        with pytest.raises(JournalError):
            journal.flush()
    assert stored(directory) == [b"one"]
    journal._file = os.open(segments.path_of(directory, 1), os.O_WRONLY | os.O_APPEND)  # for the fixture to close
    with pytest.raises(JournalError):
        journal.append(b"refused, though the descriptor is good again")
    assert stored(directory) == [b"one"]


async def test_lines_kept_while_broken_are_bounded(directory: Path) -> None:
    """More than KEPT_BYTES: memory is given back, and nothing is ever written behind the gap."""
    journal = open_journal(directory, segment_bytes=1000, limit_bytes=10_000)
    for _ in range(100):
        journal.append(b"x" * 99)
    for _ in range(KEPT_BYTES // 100_000 + 2):
        with pytest.raises(JournalError):
            journal.append(b"y" * 100_000)
    assert len(journal._lines) == 0
    await journal.acknowledge(Position(5, 0))
    with pytest.raises(JournalError, match="restart"):
        journal.flush()
    with pytest.raises(JournalError, match="restart"):
        journal.append(b"behind a gap")
    journal.close()
    assert stored(directory)[-1] == b"x" * 99


def test_short_write_is_completed(journal: Journal, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """write(2) may take a part; the rest follows in the same append."""
    write = os.write

    def write_a_little(file: int, data: bytes | memoryview) -> int:
        return write(file, bytes(data[:7]))

    monkeypatch.setattr(os, "write", write_a_little)
    journal.append(b"a line of more than seven bytes")
    monkeypatch.undo()
    assert stored(directory) == [b"a line of more than seven bytes"]
    assert journal.position.offset == segments.path_of(directory, 1).stat().st_size


def test_write_that_fails_half_way_leaves_no_half_line(
    journal: Journal, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The part that was written is cut off again, and after healing the line is there once."""
    write = os.write
    calls = iter([7])

    def fill_the_disk(file: int, data: bytes | memoryview) -> int:
        if (length := next(calls, None)) is None:
            del data  # os.write leaves no frame that holds it, and so must this not
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, bytes(data[:length]))

    journal.append(b"one")
    monkeypatch.setattr(os, "write", fill_the_disk)
    with pytest.raises(JournalError, match="make room"):
        journal.append(b"a line of more than seven bytes")
    assert segments.path_of(directory, 1).read_bytes() == b"one\n"
    monkeypatch.undo()
    journal.flush()
    journal.append(b"two")
    assert stored(directory) == [b"one", b"a line of more than seven bytes", b"two"]


def test_failed_sync_of_a_full_segment_shuts_the_journal(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed fdatasync nobody knows what is on disk."""
    journal = open_journal(directory, segment_bytes=1000)

    def fail(_file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fail)

    def append_until_it_fails() -> None:
        for _ in range(100):
            journal.append(b"x" * 99)

    with pytest.raises(JournalError, match="restart the proxy"):
        append_until_it_fails()
    monkeypatch.undo()
    with pytest.raises(JournalError, match="restart the proxy"):
        journal.append(b"refused")
    journal.close()
