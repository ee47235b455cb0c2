"""The journal: lines in order, rotation, limits, failures and what a restart finds. On real files."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy import segments
from proxy.contract.record import AuthRefused, Chain, Entry, SessionEnd, SessionReaped, SessionStart, decode, line_hash
from proxy.contract.verification import verify_chain
from proxy.journal import LAZY_BYTES, Journal, JournalError
from proxy.recorder import Recorder
from proxy.segments import Position
from tests.harness.waiting import eventually_sync
from tests.unit.proxy.journals import begin, end_record, notice, open_journal, start_record, stored


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


def test_breaks_are_noted_until_they_are_on_record(directory: Path) -> None:
    """Over as many crashes as it takes; a start that finds a whole journal changes nothing."""
    directory.mkdir(parents=True)
    path = segments.path_of(directory, 1)
    for tail in (b"one\ntorn", b"two\nta"):
        with path.open("ab") as file:
            file.write(tail)
        open_journal(directory).close()
    open_journal(directory).close()
    assert segments.load_torn(directory) == [
        segments.Torn(segment=1, offset=4, bytes=4),
        segments.Torn(segment=1, offset=8, bytes=2),
    ]
    segments.forget_torn(directory)
    assert segments.load_torn(directory) == []


def test_a_torn_tail_that_cannot_be_noted(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk the journal opens all the same: the start has backends to end."""
    open_journal(directory).close()
    newest = max(directory.glob("*.ndjson"))
    newest.write_bytes(b"one\ntorn")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr("proxy.files.replace", full)
    assert segments.cut_torn_tail(newest) == 4
    assert newest.read_bytes() == b"one\n"
    assert segments.load_torn(directory) == []


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


def entries(directory: Path) -> list[Entry]:
    """The places of the sessions that are in the journal, in order; each fits the one before it."""
    found, prev = [], ""
    for line in stored(directory):
        record = decode(line)
        if record.seq == 0:
            assert isinstance(record, SessionStart | AuthRefused | SessionReaped)
            assert record.entry is not None
            assert record.entry.prev == prev
            prev = line_hash(line)
            found.append(record.entry)
    return found


def test_sessions_are_a_chain_of_their_own(directory: Path) -> None:
    """Starts, refusals and reapings have their places, over a restart and a checkpoint; an end signs what there was."""
    key = Ed25519PrivateKey.generate()
    journal = open_journal(directory, segment_bytes=2_000, limit_bytes=20_000)
    recorders = [Recorder(journal, key, Chain(f"s{number}")) for number in range(12)]
    for recorder in recorders[:8]:
        recorder.start(start_record())
    recorders[8].refuse(AuthRefused(refusal="expired", user="a", database="b"))
    journal.close()
    journal = open_journal(directory)
    Recorder(journal, key, Chain("s9")).reap(
        SessionReaped(reaped="s", left_by="p", target="t", backend_pid=1, backend_start="2026", decided_at=1, found=0)
    )
    Recorder(journal, key, journal.unfinished["s0"].chain).end(end_record())
    journal.close()
    assert len(segments.numbers(directory)) > 1
    found = entries(directory)
    assert [one.number for one in found] == list(range(10))
    assert len({one.journal for one in found}) == 1
    last = decode(stored(directory)[-1])
    assert isinstance(last, SessionEnd)
    assert last.next_entry == journal.next_entry
    assert (journal.next_entry.number, journal.next_entry.prev) == (10, line_hash(stored(directory)[-2]))


def test_the_chain_of_sessions_goes_on_from_a_checkpoint(directory: Path) -> None:
    """Though no session has begun in the segments behind it, and those before it are gone."""
    journal = open_journal(directory, segment_bytes=2_000)
    begin(journal, "idle")
    busy = begin(journal, "busy")
    for _ in range(100):
        journal.append(busy.seal(notice()))
    journal.flush()
    journal._release()
    for number in segments.numbers(directory)[:-2]:
        segments.path_of(directory, number).unlink()
    again = open_journal(directory, segment_bytes=2_000)
    assert again.next_entry == journal.next_entry
    again.close()


def test_a_session_that_never_was_takes_no_place(directory: Path) -> None:
    """Its start was refused: there is no trace of it."""
    key = Ed25519PrivateKey.generate()
    journal = open_journal(directory, segment_bytes=1_000, limit_bytes=4_000)
    too_long = start_record()
    too_long.reason = "x" * 5_000
    with pytest.raises(JournalError):
        Recorder(journal, key, Chain("long")).start(too_long)
    journal.flush()
    Recorder(journal, key, Chain("next")).start(start_record())
    assert [one.number for one in entries(directory)] == [0]
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


def test_segments_that_nobody_may_have_synced_are_synced_at_the_start(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was killed had filled them and not yet retired them; where that fails, the journal is shut."""
    journal = open_journal(directory, segment_bytes=1000)
    for _ in range(30):
        journal.append(b"x" * 99)
    journal.close()
    (directory / segments.CHECKPOINT_FILE).unlink()
    synced: list[Path] = []
    monkeypatch.setattr(os, "fdatasync", lambda file: synced.append(Path(f"/proc/self/fd/{file}").readlink()))
    open_journal(directory).close()
    assert [path.name for path in synced] == [path.name for path in sorted(directory.glob("*.ndjson"))]

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fail)
    journal = open_journal(directory)
    with pytest.raises(JournalError, match="restart the proxy"):
        eventually_sync(journal.flush)
    monkeypatch.undo()
    journal.close()


def test_segments_that_are_gone_need_no_sync(directory: Path) -> None:
    """An operator has moved them away."""
    open_journal(directory).close()
    assert not segments.sync(directory, [1, 7])
