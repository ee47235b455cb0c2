"""Durability `disk`: nothing goes on before its record is on disk, and those who wait at the same time share a sync."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from proxy.errors import JournalFailed
from proxy.journal import Journal
from proxy.relay import HELD_BYTES
from proxy.wire.outcome import Scene, outcome
from tests.harness.disks import Disk
from tests.harness.waiting import eventually
from tests.unit.proxy.journals import open_journal
from tests.unit.proxy.stand import Stand
from tests.unit.proxy.wire.playbook import (
    COPY_DONE,
    COPY_IN,
    READY,
    READY_IN,
    SYNC,
    bind,
    complete,
    copy_data,
    execute,
    parse,
)
from tests.unit.proxy.wire.playbook import query as ask

STATEMENTS = ask("one"), parse("two") + bind() + execute() + SYNC


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """One that waits to be let."""
    made = Disk(monkeypatch)
    yield made
    monkeypatch.undo()
    made.let.release(100)


@pytest.fixture
async def stand(tmp_path: Path, disk: Disk) -> AsyncIterator[Stand]:
    """A relay whose records must be on disk."""
    made = Stand(tmp_path / "journal", durable=True)
    yield made
    disk.let.release(100)
    made.close()


@pytest.mark.parametrize("statement", STATEMENTS, ids=["simple", "extended"])
async def test_waits_for_the_disk(stand: Stand, disk: Disk, statement: bytes) -> None:
    """The statement goes on when its record is on disk, not before; the client is not read meanwhile."""
    stand.client.data_received(statement)
    await disk.is_asked()
    assert (len(stand.records()), stand.upstream, stand.client_side.reading) == (1, b"", False)
    disk.let.release()
    await eventually(lambda: stand.upstream == statement)
    assert stand.client_side.reading
    stand.server.data_received(complete("SELECT 1") + READY)
    stand.client.data_received(ask("next"))
    await disk.is_asked()
    assert stand.upstream == statement


async def test_what_comes_meanwhile(stand: Stand, disk: Disk) -> None:
    """It waits for a sync of its own, in order: the one that runs may have begun too early."""
    stand.client.data_received(ask("one"))
    await disk.is_asked()
    stand.client.data_received(ask("two"))
    stand.client.data_received(ask("three"))
    disk.let.release()
    await disk.is_asked()
    assert stand.upstream == ask("one")
    assert not stand.client_side.reading
    disk.let.release()
    await eventually(lambda: stand.upstream == ask("one") + ask("two") + ask("three"))
    assert disk.syncs == 2


async def test_copied_data_waits_for_nothing(stand: Stand, disk: Disk) -> None:
    """What needs no record of its own goes on at once, behind what does."""
    stand.client.data_received(ask("COPY t FROM STDIN"))
    await disk.is_asked()
    disk.let.release()
    await eventually(lambda: stand.upstream == ask("COPY t FROM STDIN"))
    stand.server.data_received(COPY_IN)
    before = stand.upstream
    for _ in range(3):
        stand.client.data_received(copy_data(b"row"))
    stand.client.data_received(COPY_DONE)
    assert stand.upstream == before + 3 * copy_data(b"row") + COPY_DONE
    assert disk.syncs == 1


async def test_recorded_data_waits_together(tmp_path: Path, disk: Disk) -> None:
    """What comes while a sync runs shares the next one; the client is read on, up to a bound."""
    stand = Stand(tmp_path / "journal", durable=True, copy_data="in")
    disk.let.release()
    stand.client.data_received(ask("COPY t FROM STDIN"))
    await eventually(lambda: stand.upstream == ask("COPY t FROM STDIN"))
    stand.server.data_received(COPY_IN)
    before, rows = stand.upstream, [copy_data(b"%d" % number * 8_000) for number in range(8)]
    await disk.is_asked()
    for row in rows[:4]:
        stand.client.data_received(row)
    await disk.is_asked()
    assert (stand.upstream, stand.client_side.reading) == (before, True)
    assert len(stand.records()) == 5
    sent = 4 + next(number for number in range(1, 1_000) if _stops_reading(stand, rows[4]))
    held = sent * len(rows[4])
    assert held < HELD_BYTES + len(rows[4])
    disk.let.release(2)
    await eventually(lambda: len(stand.upstream) == len(before) + held)
    assert disk.syncs == 3
    assert stand.client_side.reading
    disk.let.release(10)
    stand.close()


def _stops_reading(stand: Stand, row: bytes) -> bool:
    stand.client.data_received(row)
    return not stand.client_side.reading


async def test_a_disk_that_fails(stand: Stand, disk: Disk) -> None:
    """PostgreSQL never gets the statement, nor anything behind it, and the journal takes nothing more."""
    disk.error = OSError(errno.EIO, os.strerror(errno.EIO))
    stand.client.data_received(ask("one"))
    disk.let.release()
    await eventually(stand.relay.ended.done)
    assert isinstance(stand.cause(), JournalFailed)
    assert "restart the proxy" in (stand.journal.fault or "")
    stand.client.data_received(ask("two"))
    assert stand.upstream == b""


async def test_an_end_meanwhile(stand: Stand, disk: Disk) -> None:
    """Access ends while a statement waits: it does not go on any more, whatever the disk says."""
    stand.client.data_received(ask("one"))
    await disk.is_asked()
    stand.relay.close_in()
    disk.let.release()
    done = asyncio.get_running_loop().create_future()
    stand.journal.sync(done.set_result)
    disk.let.release()
    assert await done is None
    assert stand.upstream == b""


async def test_a_server_that_does_not_take_it(stand: Stand, disk: Disk) -> None:
    """The client is read again only when PostgreSQL's socket takes data again."""
    stand.server_side.on_write = lambda _: stand.server.pause_writing()
    stand.client.data_received(ask("one"))
    disk.let.release()
    await eventually(lambda: stand.upstream == ask("one"))
    assert not stand.client_side.reading
    stand.server.resume_writing()
    assert stand.client_side.reading


async def test_one_sync_for_many(tmp_path: Path, disk: Disk) -> None:
    """Whoever asks while a sync runs is answered by the next one, all at once."""
    journal = open_journal(tmp_path)
    answers: list[Exception | None] = []
    journal.append(b"1")
    journal.sync(answers.append)
    await disk.is_asked()
    for number in range(100):
        journal.append(b"%d" % number)
        journal.sync(answers.append)
    disk.let.release(2)
    await eventually(lambda: len(answers) == 101)
    assert not any(answers)
    assert journal.syncs == disk.syncs == 2
    disk.let.release()
    journal.close()


async def test_a_segment_that_cannot_be_synced(tmp_path: Path, disk: Disk) -> None:
    """A sync speaks for the segments before, too: where one of those failed, nobody hears that all is well."""
    journal: Journal = open_journal(tmp_path, segment_bytes=1 << 20, limit_bytes=1 << 22)
    disk.error = OSError(errno.EIO, os.strerror(errno.EIO))
    journal.append(b"x" * (1 << 20))
    await disk.is_asked()
    disk.let.release()
    await eventually(lambda: disk.let._value == 0)
    disk.error = None
    answers: list[Exception | None] = []
    journal.sync(answers.append)
    disk.let.release()
    await eventually(lambda: bool(answers))
    assert "restart the proxy" in str(answers[0])
    disk.let.release()
    journal.close()


async def test_a_sync_behind_one_that_failed(tmp_path: Path, disk: Disk) -> None:
    """It proves nothing of what both were for: the kernel reports a failed write once, and forgets the pages."""
    journal: Journal = open_journal(tmp_path)
    answers: list[Exception | None] = []
    journal.append(b"one")
    journal.sync(answers.append)
    await disk.is_asked()
    journal.append(b"two")
    journal.sync(answers.append)  # waits for the next sync
    disk.error = OSError(errno.EIO, os.strerror(errno.EIO))
    disk.let.release()
    await eventually(lambda: len(answers) == 1)
    disk.error = None
    disk.let.release()
    await eventually(lambda: len(answers) == 2)
    assert all("restart the proxy" in str(answer) for answer in answers)
    disk.let.release()
    journal.close()


async def test_what_never_went_on_is_nothing_that_was_open(stand: Stand, disk: Disk) -> None:
    """It is on record, with an end that says it was skipped; what went on before it is judged without it."""
    stand.client.data_received(ask("BEGIN"))
    await disk.is_asked()
    disk.let.release()
    await eventually(lambda: stand.upstream == ask("BEGIN"))
    stand.server.data_received(complete("BEGIN") + READY_IN)
    stand.client.data_received(ask("one") + ask("two"))
    await disk.is_asked()
    scene = Scene.of(stand.relay.tracker)
    stand.relay.close_in()
    assert [step.statement for step in stand.relay.withdrawn] == [2, 3]
    assert all(step.skipped for step in stand.relay.withdrawn)
    assert not stand.relay.tracker.busy
    assert outcome(stand.relay.tracker, scene, fate="aborted") == "rolled back"
    disk.let.release(10)


async def test_what_never_went_on_outside_a_transaction(stand: Stand, disk: Disk) -> None:
    """Nothing was open: there is nothing that could have been committed."""
    stand.client.data_received(ask("one"))
    await disk.is_asked()
    scene = Scene.of(stand.relay.tracker)
    stand.relay.close_in()
    assert outcome(stand.relay.tracker, scene, fate=None) == "nothing open"
    disk.let.release(10)


@pytest.mark.parametrize("behind", [b"", SYNC], ids=["by the shortcut", "with more behind it"])
async def test_without_a_record_nothing_is_open(tmp_path: Path, behind: bytes) -> None:
    """The statement that was refused for the journal's sake was never asked: nothing runs, and nothing is open."""
    stand = Stand(tmp_path / "journal", limit_bytes=4_000)
    stand.client.data_received(ask("begin"))
    stand.server.data_received(complete("BEGIN") + READY_IN)
    stand.client.data_received(ask("x" * 9_000) + behind)
    assert isinstance(stand.cause(), JournalFailed)
    tracker = stand.relay.tracker
    assert ([step.statement for step in stand.relay.withdrawn], tracker.running, tracker.open) == ([2], (), ())
    assert outcome(tracker, Scene.of(tracker), fate=None) == "rolled back"
    stand.close()
