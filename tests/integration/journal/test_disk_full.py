"""A full disk: appends fail, nothing half-written stays, and the journal heals only when there is room again."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy import segments
from proxy.contract.record import GENESIS, Chain, decode, line_hash
from proxy.journal import Journal, JournalError
from tests.harness import disks
from tests.integration.journal.writer import LIMIT_BYTES, notice
from tests.unit.proxy.journals import start_record

DISK_BYTES = 256 * 1024
BALLAST_BYTES = 64 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of DISK_BYTES."""
    with disks.small_disk(tmp_path / "disk", DISK_BYTES) as disk:
        yield disk


def open_journal(directory: Path) -> Journal:
    """One that tries again at every flush."""
    return Journal.open(directory, segment_bytes=LIMIT_BYTES, limit_bytes=4 * LIMIT_BYTES, retry_s=0)


def whole_lines(directory: Path) -> list[bytes]:
    """The journal's lines; fails where a part of one is left."""
    body = b"".join(segments.path_of(directory, number).read_bytes() for number in segments.numbers(directory))
    assert body.endswith(b"\n")
    return body.splitlines()


def check_chain(lines: list[bytes], chain: Chain) -> None:
    """The lines are exactly what `chain` sealed: nothing lost, nothing twice."""
    head = GENESIS
    for seq, line in enumerate(lines):
        record = decode(line)
        assert (record.seq, record.prev) == (seq, head)
        head = line_hash(line)
    assert (len(lines), head) == (chain.next_seq, chain.head)


def append_until_refused(journal: Journal, chain: Chain) -> int:
    """Returns how many appends were accepted."""
    for number in range(DISK_BYTES):
        try:
            journal.append(chain.seal(notice(number)))
        except JournalError as error:
            assert "No space left on device; make room" in str(error)  # noqa: PT017 the loop needs the count
            return number
    raise AssertionError("the disk is never full")


def test_full_disk_refuses_until_there_is_room(small_disk: Path) -> None:
    """No half line while it is full; afterwards the chain goes on without a gap, the refused records included."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * BALLAST_BYTES)
    directory = small_disk / "journal"
    journal = open_journal(directory)
    chain = Chain("ses_1")
    journal.append_start(chain, chain.seal(start_record()))
    accepted = append_until_refused(journal, chain)
    assert len(whole_lines(directory)) == accepted + 1
    for _ in range(3):
        with pytest.raises(JournalError, match="No space left"):
            journal.append(chain.seal(notice()))
        with pytest.raises(JournalError, match="No space left"):
            journal.flush()
    assert len(whole_lines(directory)) == accepted + 1

    ballast.unlink()
    journal.flush()
    journal.append(chain.seal(notice()))
    journal.close()
    check_chain(whole_lines(directory), chain)


def test_reopening_on_a_full_disk_still_refuses(small_disk: Path) -> None:
    """A restart does not make room: the journal opens whole, knows its open session, and fails closed again."""
    directory = small_disk / "journal"
    journal = open_journal(directory)
    chain = Chain("ses_1")
    journal.append_start(chain, chain.seal(start_record()))
    append_until_refused(journal, chain)
    with pytest.raises(JournalError, match="No space left"):
        journal.close()
    before = whole_lines(directory)

    journal = open_journal(directory)
    assert journal.torn_bytes == 0
    assert journal.unfinished["ses_1"].chain.next_seq == len(before)
    with pytest.raises(JournalError, match="No space left"):
        journal.append(b"x" * DISK_BYTES)
    assert whole_lines(directory) == before
    with pytest.raises(JournalError, match="No space left"):
        journal.close()


@pytest.mark.parametrize("limit", [30_000, 30_001, 33_333])
def test_write_that_the_kernel_cuts_short_leaves_no_half_line(tmp_path: Path, limit: int) -> None:
    """RLIMIT_FSIZE lets a part of the last write through (setrlimit(2)) and fails the rest with EFBIG."""
    arguments = [sys.executable, "-m", "tests.integration.journal.writer", str(tmp_path), "ses_1", str(limit)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=60)
    said = [line for line in done.stdout.splitlines() if "restart the proxy" not in line]
    *numbers, first, second, third = said
    assert [first, second, third] == ["refused"] * 3
    lines = whole_lines(tmp_path)
    assert sum(len(line) + 1 for line in lines) <= limit
    stored = {decode(line).seq - 1 for line in lines}
    assert {int(number) for number in numbers} <= stored

    journal = open_journal(tmp_path)
    assert journal.torn_bytes == 0
    assert journal.unfinished["ses_1"].chain.next_seq == len(lines)
    journal.append(b"room again, since the limit was the process's own")
    journal.close()
