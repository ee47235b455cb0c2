"""Transactions: whole or not at all, in turn, and heard of after the commit only."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, OperationalError

from control.domain.people import ApiKey, Person
from control.store import people
from control.store.engine import Store, Transaction, open_store, probe
from control.store.migrate import migrate
from control.store.signals import Signals, wait
from control.tasks import spawn


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """An empty one."""
    migrate(tmp_path / "db")
    store = open_store(tmp_path / "db")
    yield store
    await store.close()


def person(name: str) -> Person:
    """Somebody."""
    return Person(name=name, full_name="", roles=frozenset(), created_at=0)


class BrokenError(Exception):
    """Something goes wrong half-way."""


async def break_off(store: Store) -> None:
    """Write something, and fail then."""
    async with store.write() as tx:
        await people.add(tx, person("ada"))
        tx.touch("topic")
        raise BrokenError


async def test_what_raises_leaves_nothing(store: Store) -> None:
    """And wakes nobody."""
    with store.signals.listen("topic") as event:
        with pytest.raises(BrokenError):
            await break_off(store)
        assert not event.is_set()
    async with store.read() as tx:
        assert await people.find(tx, "ada") is None


async def test_a_commit_wakes_after_it_is_visible(store: Store) -> None:
    """Who listens first and reads then misses nothing."""
    seen: list[Person | None] = []

    async def watch() -> None:
        with store.signals.listen("topic") as event:
            listening.set()
            assert await wait(event, 10)
            async with store.read() as tx:
                seen.append(await people.find(tx, "ada"))

    listening = asyncio.Event()
    watcher = spawn("watch", watch())
    await listening.wait()
    async with store.write() as tx:
        await people.add(tx, person("ada"))
        tx.touch("topic")
    await watcher
    assert seen == [person("ada")]


async def test_a_reader_sees_one_state(store: Store) -> None:
    """Also while somebody writes, which does not wait for it."""
    async with store.read() as tx:
        assert not await people.any_at_all(tx)
        async with store.write() as writer:
            await people.add(writer, person("ada"))
        assert not await people.any_at_all(tx)
    async with store.read() as tx:
        assert await people.any_at_all(tx)


async def test_writers_take_turns(store: Store) -> None:
    """A read-modify-write by many at once loses nothing."""

    async def add_letter(letter: str) -> None:
        async with store.write() as tx:
            found = await people.find(tx, "ada")
            assert found is not None
            await asyncio.sleep(0)
            await people.change(
                tx, Person(name="ada", full_name=found.full_name + letter, roles=frozenset(), created_at=0)
            )

    async with store.write() as tx:
        await people.add(tx, person("ada"))
    await asyncio.gather(*(add_letter(letter) for letter in "abcdefghijklmnopqrst"))
    async with store.read() as tx:
        found = await people.find(tx, "ada")
    assert found is not None
    assert sorted(found.full_name) == list("abcdefghijklmnopqrst")


async def test_another_process_is_waited_for(store: Store, tmp_path: Path) -> None:
    """Two writers of one file: the second waits for the first, from the first one's first look on."""
    other = open_store(tmp_path / "db")
    async with other.write() as tx:
        assert not await people.any_at_all(tx)
        writing = spawn("write", add(store, "bob"))
        done, _ = await asyncio.wait([writing], timeout=0.2)
        assert not done
        await people.add(tx, person("ada"))
    await writing
    await other.close()
    async with store.read() as tx:
        assert await people.find(tx, "bob") is not None


async def test_waiting_writers_keep_no_reader_out(store: Store) -> None:
    """They wait for their turn, and only then for a connection: there are few of these."""
    async with store.write() as tx:
        writers = [spawn("write", add(store, f"p{number}")) for number in range(40)]
        await asyncio.sleep(0)
        async with asyncio.timeout(5), store.read() as reader:
            assert not await people.any_at_all(reader)
        await people.add(tx, person("ada"))
    await asyncio.gather(*writers)


async def add(store: Store, name: str) -> None:
    """Add somebody."""
    async with store.write() as tx:
        await people.add(tx, person(name))


async def test_a_cancelled_writer_leaves_the_store_usable(store: Store) -> None:
    """Its turn is over, and what it wrote is gone."""

    async def dawdle() -> None:
        async with store.write() as tx:
            await people.add(tx, person("ada"))
            writing.set()
            await asyncio.Event().wait()

    writing = asyncio.Event()
    task = spawn("dawdle", dawdle())
    await writing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await add(store, "bob")
    async with store.read() as tx:
        assert await people.find(tx, "ada") is None
        assert await people.find(tx, "bob") is not None


async def test_much_is_written_as_one(store: Store) -> None:
    """In a thread, in turn with the others, and heard of once it is there."""

    async def work(tx: Transaction) -> str:
        threads.append(threading.current_thread())
        assert await people.find(tx, "bob") is not None
        await people.add(tx, person("ada"))
        tx.touch("topic")
        return "done"

    threads: list[threading.Thread] = []
    with store.signals.listen("topic") as event:
        async with store.write() as tx:
            writing = spawn("write", store.write_as_one(work))
            await asyncio.sleep(0)
            await people.add(tx, person("bob"))
        assert await writing == "done"
        assert event.is_set()
    assert threads != [threading.current_thread()]
    async with store.read() as tx:
        assert await people.find(tx, "ada") == person("ada")


async def test_what_raises_as_one_leaves_nothing(store: Store) -> None:
    """Nor does what waits for anything else, for there is no event loop in its thread."""

    async def fail(tx: Transaction) -> None:
        await people.add(tx, person("ada"))
        tx.touch("topic")
        raise BrokenError

    async def dawdle(tx: Transaction) -> None:
        await people.add(tx, person("ada"))
        await asyncio.sleep(0)

    with store.signals.listen("topic") as event:
        for work, error in ((fail, BrokenError), (dawdle, RuntimeError)):
            with pytest.raises(error):
                await store.write_as_one(work)
        assert not event.is_set()
    async with store.read() as tx:
        assert not await people.any_at_all(tx)


async def test_who_is_cancelled_ends_what_is_one(store: Store) -> None:
    """A thread cannot be stopped: its turn lasts until it is done, and then others hear of it."""

    async def work(tx: Transaction) -> None:
        loop.call_soon_threadsafe(begun.set)
        assert cancelled.wait(10)
        await people.add(tx, person("ada"))
        tx.touch("topic")

    loop, begun, cancelled = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    with store.signals.listen("topic") as event:
        task = spawn("write", store.write_as_one(work))
        await begun.wait()
        task.cancel()
        waiting = spawn("write", add(store, "bob"))
        done, _ = await asyncio.wait([task, waiting], timeout=0.05)
        assert not done
        cancelled.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert event.is_set()
    await waiting
    async with store.read() as tx:
        assert await people.find(tx, "ada") is not None
        assert await people.find(tx, "bob") is not None


async def test_foreign_keys_hold(store: Store) -> None:
    """SQLite has them off unless it is told."""
    with pytest.raises(IntegrityError) as failed:
        async with store.write() as tx:
            await people.add_key(tx, ApiKey(id="k", person="nobody", digest="hush", created_at=0))
    assert "hush" not in str(failed.value), "what was to be stored is no matter for the log"


async def test_the_file_is_safe(store: Store) -> None:
    """A log that readers pass by, and every commit on disk, whoever writes it."""

    async def look(tx: Transaction) -> list[object]:
        names = ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
        return [(await tx.connection.execute(sa.text(f"PRAGMA {name}"))).scalar() for name in names]

    async with store.read() as tx:
        assert await look(tx) == ["wal", 2, 10_000, 1]
    assert await store.write_as_one(look) == ["wal", 2, 10_000, 1]


async def test_the_probe_writes(store: Store) -> None:
    """It notices a database that takes no writes."""
    async with store.write() as tx:
        await probe(tx)
        await tx.connection.execute(sa.text("PRAGMA query_only = ON"))
        with pytest.raises(OperationalError, match="readonly"):
            await probe(tx)
        await tx.connection.execute(sa.text("PRAGMA query_only = OFF"))


async def test_signals_reach_their_own_listeners_only() -> None:
    """A wait that was in vain says so; a stop wakes everybody; nothing is left behind."""
    signals = Signals()
    with signals.listen("a") as a, signals.listen("b", "c") as b:
        signals.notify(["a", "nobody's"])
        assert a.is_set()
        assert not b.is_set()
        assert await wait(a, 10)
        assert not a.is_set()
        assert not await wait(b, 0)
        signals.wake_everybody()
        assert a.is_set()
        assert b.is_set()
    assert not signals._waiting


async def test_what_is_written_is_in_the_file_alone(store: Store, tmp_path: Path) -> None:
    """Whoever copies it once the service has stopped has all of it, though somebody else still has it open."""
    async with store.write() as tx:
        await people.add(tx, person("ada"))
    async with store.read():
        pass  # a connection of the pool's that stays open
    assert (tmp_path / "db-wal").stat().st_size > 0
    await store.merge()
    assert (tmp_path / "db-wal").stat().st_size == 0
    (tmp_path / "copy").write_bytes((tmp_path / "db").read_bytes())
    copy = open_store(tmp_path / "copy")
    async with copy.read() as tx:
        assert await people.find(tx, "ada") is not None
    await copy.close()
