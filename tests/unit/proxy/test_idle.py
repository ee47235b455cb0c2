"""What counts as idle, with the time in the test's hand and a relay whose two sides the test plays."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from proxy import idle
from proxy.idle import IdleWatch
from tests.unit.proxy.stand import Stand
from tests.unit.proxy.wire.playbook import (
    COPY_BOTH,
    COPY_DONE,
    COPY_IN,
    COPY_OUT,
    READY,
    READY_IN,
    ROW,
    complete,
    copy_data,
    query,
)
from tests.unit.proxy.wire.reference import header, message

TIMEOUT_S = 100.0
DONE = complete("SELECT 1") + READY


@dataclass
class Watched:
    """A session, and what the watch on it has said."""

    stand: Stand
    monkeypatch: pytest.MonkeyPatch
    now: float = 1_000.0
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.monkeypatch.setattr(idle, "monotonic", lambda: self.now)
        self.watch = IdleWatch(self.stand.relay, TIMEOUT_S, lambda: self.said.append("idle"))

    def look(self, *, after: float) -> bool:
        """Whether it has said so, after so many seconds without a look."""
        self.watch.close()
        self.now += after
        self.watch._look()
        return bool(self.said)


@pytest.fixture
async def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:  # type: ignore[misc]  # asynchronous, for its loop
    """A session that has just begun."""
    made = Watched(Stand(tmp_path / "journal"), monkeypatch)
    yield made
    made.watch.close()
    made.stand.close()


async def test_nothing_happens(watched: Watched) -> None:
    """Idle after the timeout, and not before."""
    assert not watched.look(after=TIMEOUT_S - 1)
    assert watched.look(after=1)


async def test_it_looks_by_itself(watched: Watched) -> None:
    """Often enough, and not too often."""
    assert watched.watch._every_s == idle.MOST_S
    assert IdleWatch(watched.stand.relay, 0.1, lambda: None)._every_s == idle.LEAST_S


async def test_a_statement_between_two_looks(watched: Watched) -> None:
    """It counts, though nothing of it is to be seen any more."""
    watched.look(after=TIMEOUT_S - 1)
    watched.stand.client.data_received(query("SELECT 1"))
    watched.stand.server.data_received(ROW + DONE)
    assert not watched.look(after=2)
    assert not watched.look(after=TIMEOUT_S - 1)
    assert watched.look(after=1)


async def test_a_silent_statement_is_never_idle(watched: Watched) -> None:
    """And what follows it is idle from its end on, not from its beginning."""
    watched.stand.client.data_received(query("SELECT pg_sleep(1e6)"))
    for _ in range(3):
        assert not watched.look(after=10 * TIMEOUT_S)
    watched.stand.server.data_received(DONE)
    assert not watched.look(after=TIMEOUT_S)
    assert watched.look(after=TIMEOUT_S)


async def test_an_open_transaction(watched: Watched) -> None:
    """Is idle like everything else."""
    watched.stand.client.data_received(query("BEGIN"))
    watched.stand.server.data_received(complete("BEGIN") + READY_IN)
    watched.look(after=1)
    assert watched.look(after=TIMEOUT_S)


async def test_half_a_message(watched: Watched) -> None:
    """The client is sending."""
    watched.stand.client.data_received(header(b"Q", 1000))
    for _ in range(5):
        watched.stand.client.data_received(b"x")
        assert not watched.look(after=TIMEOUT_S)
    assert watched.look(after=TIMEOUT_S)


async def test_notifications_are_not_the_client_s(watched: Watched) -> None:
    """PostgreSQL's own idle_session_timeout has it so too."""
    watched.stand.server.data_received(message(b"A", b"\0\0\0\1x\0y\0"))
    assert watched.look(after=TIMEOUT_S)


async def test_a_copy_that_waits_for_data(watched: Watched) -> None:
    """Is idle unless they come; once they have all come, it is a statement that runs."""
    watched.stand.client.data_received(query("COPY t FROM STDIN"))
    watched.stand.server.data_received(COPY_IN)
    watched.look(after=TIMEOUT_S)
    for _ in range(3):
        watched.stand.client.data_received(copy_data(b"1\n"))
        assert not watched.look(after=TIMEOUT_S)
    watched.stand.client.data_received(COPY_DONE)
    assert not watched.look(after=10 * TIMEOUT_S)


async def test_a_copy_whose_data_never_come(watched: Watched) -> None:
    """It holds locks, and nobody works."""
    watched.stand.client.data_received(query("COPY t FROM STDIN"))
    watched.stand.server.data_received(COPY_IN)
    assert not watched.look(after=1)
    watched.stand.server.data_received(message(b"N", b"SNOTICE\0\0"))
    assert watched.look(after=TIMEOUT_S)


async def test_a_copy_out_that_nobody_reads(watched: Watched) -> None:
    """It is a statement that runs."""
    watched.stand.client.data_received(query("COPY t TO STDOUT"))
    watched.stand.server.data_received(COPY_OUT)
    assert not watched.look(after=10 * TIMEOUT_S)


@pytest.mark.parametrize("side", ["client", "server"])
async def test_a_replication_stream(watched: Watched, side: str) -> None:
    """Is not idle while either side sends."""
    watched.stand.client.data_received(query("START_REPLICATION"))
    watched.stand.server.data_received(COPY_BOTH)
    watched.look(after=1)
    for _ in range(3):
        getattr(watched.stand, side).data_received(copy_data(b"w"))
        assert not watched.look(after=TIMEOUT_S)
    assert watched.look(after=TIMEOUT_S)
