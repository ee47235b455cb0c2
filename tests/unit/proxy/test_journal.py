"""The journal: lines in order, rotation, limits, failures and what a restart finds. On real files."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy import segments
from proxy.contract.record import Chain, Notice, SessionEnd, SessionStart, verify_chain
from proxy.journal import KEPT_BYTES, LAZY_BYTES, Journal, JournalError
from proxy.segments import Position

SEGMENT_BYTES = 1 << 20
LIMIT_BYTES = 1 << 24


def open_journal(
    directory: Path, *, segment_bytes: int = SEGMENT_BYTES, limit_bytes: int = LIMIT_BYTES, retry_s: float = 0
) -> Journal:
    """A journal that retries at every flush."""
    return Journal.open(directory, segment_bytes=segment_bytes, limit_bytes=limit_bytes, retry_s=retry_s)


def stored(directory: Path) -> list[bytes]:
    """Every line on disk, segment by segment."""
    files = [segments.path_of(directory, number) for number in segments.numbers(directory)]
    return b"".join(path.read_bytes() for path in files).splitlines()


def start_record() -> SessionStart:
    """The first record of a session."""
    return SessionStart(
        grant="grt_1",
        person="ada",
        expires_at=1,
        target="orders",
        database="orders",
        profile="dba",
        upstream_user="app",
        backend_pid=1,
        backend_start="2026-01-01T00:00:00.000000+00:00",
        proxy="p1",
    )


def end_record() -> SessionEnd:
    """The last one of a crashed session."""
    return SessionEnd(reason="crashed", decided_at=1, outcome="unknown", statements=0, bytes_in=0, bytes_out=0)


def notice(text: str = "soon") -> Notice:
    """A small record for the middle."""
    return Notice(severity="NOTICE", sqlstate="00000", message=text)


def begin(journal: Journal, session: str) -> Chain:
    """Write a session's start."""
    chain = Chain(session)
    journal.append_start(chain, chain.seal(start_record()))
    return chain


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


def test_append_has_written_the_line_when_it_returns(journal: Journal, directory: Path) -> None:
    """What was appended can be read through the file system at once."""
    journal.append(b"one")
    assert stored(directory) == [b"one"]
    journal.append(b"two")
    assert stored(directory) == [b"one", b"two"]
    assert journal.position == Position(1, 8)


def test_lazy_lines_wait_for_the_next_append_and_keep_their_order(journal: Journal, directory: Path) -> None:
    """append_lazily touches no file; the next append writes all of it in order."""
    journal.append_lazily(b"one")
    journal.append_lazily(b"two")
    assert stored(directory) == []
    journal.append(b"three")
    assert stored(directory) == [b"one", b"two", b"three"]


def test_flush_writes_lazy_lines(journal: Journal, directory: Path) -> None:
    """A flush needs no further append, and twice is once."""
    journal.append_lazily(b"one")
    journal.flush()
    journal.flush()
    assert stored(directory) == [b"one"]


def test_lazy_lines_are_bounded(journal: Journal, directory: Path) -> None:
    """Above LAZY_BYTES they are written without being asked."""
    line = b"x" * 1000
    for _ in range(LAZY_BYTES // 1001 + 1):
        journal.append_lazily(line)
    assert len(stored(directory)) == LAZY_BYTES // 1001 + 1


def test_close_writes_lazy_lines_and_refuses_later_ones(journal: Journal, directory: Path) -> None:
    """A closed journal takes nothing, by either way."""
    journal.append_lazily(b"one")
    journal.close()
    assert stored(directory) == [b"one"]
    with pytest.raises(JournalError, match="closed"):
        journal.append(b"two")
    with pytest.raises(JournalError, match="closed"):
        journal.append_lazily(b"three")
    assert stored(directory) == [b"one"]


def test_directory_is_private(journal: Journal, directory: Path) -> None:
    """Nobody but the owner reads statements."""
    journal.append(b"one")
    assert directory.stat().st_mode & 0o077 == 0
    assert segments.path_of(directory, 1).stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures("journal")
def test_second_owner_is_refused_with_what_to_do(directory: Path) -> None:
    """The lock names the path; it goes with its holder."""
    with pytest.raises(JournalError, match=r"journal: another proxy .*proxy\.state_dir") as caught:
        open_journal(directory)
    assert str(directory) in str(caught.value)


def test_lock_goes_with_its_holder(directory: Path) -> None:
    """A closed journal can be opened again, and goes on where it was."""
    first = open_journal(directory)
    first.append(b"one")
    first.close()
    second = open_journal(directory)
    second.append(b"two")
    second.close()
    assert stored(directory) == [b"one", b"two"]
    assert segments.numbers(directory) == [1]


def test_unwritable_directory_is_refused_with_its_path(tmp_path: Path) -> None:
    """A file stands where the directory should be."""
    (tmp_path / "journal").write_text("")
    with pytest.raises(JournalError, match=r"/journal: .*proxy\.state_dir"):
        open_journal(tmp_path / "journal")


def test_rotation_keeps_every_line_in_names_that_sort(directory: Path) -> None:
    """Lines that fill several segments read back whole and in order."""
    journal = open_journal(directory, segment_bytes=1000)
    lines = [b"%06d" % number for number in range(1000)]
    for line in lines:
        journal.append(line)
    journal.close()
    names = sorted(path.name for path in directory.glob("*.ndjson"))
    assert len(names) == 7
    assert b"".join((directory / name).read_bytes() for name in names).splitlines() == lines


def test_one_line_longer_than_a_segment_is_kept_whole(directory: Path) -> None:
    """Nothing is truncated, whatever its size."""
    journal = open_journal(directory, segment_bytes=1000)
    journal.append(b"a")
    journal.append(b"b" * 5000)
    journal.append(b"c")
    journal.close()
    assert stored(directory) == [b"a", b"b" * 5000, b"c"]


def test_torn_tail_is_cut_and_reported(directory: Path) -> None:
    """Half a line at the end goes away at open; new lines follow the last whole one."""
    journal = open_journal(directory)
    journal.append(b"whole")
    journal.close()
    with segments.path_of(directory, 1).open("ab") as file:
        file.write(b"half a li")
    journal = open_journal(directory)
    assert journal.torn_bytes == 9
    journal.append(b"next")
    journal.close()
    assert stored(directory) == [b"whole", b"next"]


def test_torn_tail_longer_than_a_block_is_cut(directory: Path) -> None:
    """The search for the last newline goes back block by block, to the file's beginning if need be."""
    journal = open_journal(directory)
    journal.append(b"whole")
    journal.close()
    path = segments.path_of(directory, 1)
    with path.open("ab") as file:
        file.write(b"x" * (segments.BLOCK_BYTES * 2 + 17))
    assert segments.cut_torn_tail(path) == segments.BLOCK_BYTES * 2 + 17
    assert path.read_bytes() == b"whole\n"
    path.write_bytes(b"no newline at all")
    assert segments.cut_torn_tail(path) == 17
    assert path.read_bytes() == b""


def test_unfinished_session_can_be_ended_after_a_crash(directory: Path) -> None:
    """Its chain goes on where it stopped, and verifies as a whole once its end is written."""
    key = Ed25519PrivateKey.generate()
    first = open_journal(directory)
    done, left = begin(first, "done"), begin(first, "left")
    first.append(left.seal(notice()))
    first.append_end(done, done.seal_signed(end_record(), key))
    first._release()  # what the kernel does for a process that dies

    second = open_journal(directory)
    assert list(second.unfinished) == ["left"]
    unfinished = second.unfinished["left"]
    assert unfinished.record.person == "ada"
    assert (unfinished.chain.next_seq, unfinished.chain.head) == (2, left.head)
    second.append_end(unfinished.chain, unfinished.chain.seal_signed(end_record(), key))
    second.close()
    lines = [line for line in stored(directory) if b'"session":"left"' in line]
    assert verify_chain(lines, key.public_key()) == 3

    third = open_journal(directory)
    assert third.unfinished == {}
    third.close()


def test_unfinished_session_is_found_though_its_segments_were_deleted(directory: Path) -> None:
    """A checkpoint at each rotation carries open sessions on, so a start reads the newest segments alone."""
    journal = open_journal(directory, segment_bytes=2000)
    idle, busy = begin(journal, "idle"), begin(journal, "busy")
    for _ in range(100):
        journal.append(busy.seal(notice()))
    journal.flush()
    journal._release()
    for number in segments.numbers(directory)[:-2]:
        segments.path_of(directory, number).unlink()
    journal = open_journal(directory, segment_bytes=2000)
    found = {one.chain.session: (one.chain.next_seq, one.chain.head) for one in journal.unfinished.values()}
    assert found == {"idle": (1, idle.head), "busy": (101, busy.head)}
    assert journal.unfinished["idle"].record.person == "ada"
    journal.close()


def test_unreadable_checkpoint_means_reading_everything(directory: Path) -> None:
    """The checkpoint only saves work."""
    journal = open_journal(directory, segment_bytes=2000)
    chain = begin(journal, "left")
    for _ in range(100):
        journal.append(chain.seal(notice()))
    journal.close()
    (directory / segments.CHECKPOINT_FILE).write_bytes(b"{")
    journal = open_journal(directory, segment_bytes=2000)
    assert (journal.unfinished["left"].chain.next_seq, journal.unfinished["left"].chain.head) == (101, chain.head)
    journal.close()


def test_line_that_is_no_record_stays_and_stops_nothing(directory: Path) -> None:
    """Damage is evidence: open goes on past it and leaves it where it is."""
    journal = open_journal(directory)
    chain = begin(journal, "left")
    journal.append(b"\x00\x00 not a record")
    journal.append(chain.seal(notice()))
    journal.close()
    journal = open_journal(directory)
    assert journal.unfinished["left"].chain.next_seq == 2
    journal.close()
    assert stored(directory)[1] == b"\x00\x00 not a record"


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


async def test_retention_deletes_no_more_than_it_must(directory: Path) -> None:
    """Acknowledged segments stay for as long as they fit."""
    journal = open_journal(directory, segment_bytes=1000, limit_bytes=10_000)
    for _ in range(50):
        journal.append(b"x" * 99)
    await journal.acknowledge(Position(5, 0))
    for _ in range(60):
        journal.append(b"x" * 99)
    assert segments.numbers(directory)[0] == 2
    journal.close()


async def test_acknowledged_position_survives_a_restart(directory: Path) -> None:
    """It is what shipping goes on from."""
    journal = open_journal(directory)
    assert journal.acknowledged == Position(1, 0)
    journal.append(b"one")
    assert journal.unacknowledged_bytes == 4
    await journal.acknowledge(Position(1, 4))
    journal.close()
    journal = open_journal(directory)
    assert journal.acknowledged == Position(1, 4)
    assert journal.unacknowledged_bytes == 0
    journal.close()


@pytest.mark.parametrize("text", [b"", b"nonsense", b'{"segment":"1"}'])
def test_unreadable_position_means_shipping_again(directory: Path, text: bytes) -> None:
    """At least once: control knows what it has."""
    open_journal(directory).close()
    (directory / segments.POSITION_FILE).write_bytes(text)
    journal = open_journal(directory)
    assert journal.acknowledged == Position(1, 0)
    journal.close()


async def test_position_behind_the_end_is_pulled_back(directory: Path) -> None:
    """A power cut may take lines that control has already."""
    journal = open_journal(directory)
    journal.append(b"one")
    await journal.acknowledge(Position(7, 99))
    journal.close()
    journal = open_journal(directory)
    assert journal.acknowledged == Position(1, 4)
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
    assert len(journal._buffer) == 0
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
