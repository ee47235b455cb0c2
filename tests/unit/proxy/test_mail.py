"""Mail between workers: a question finds whoever knows the key, once, in time, or nobody."""

import asyncio
import select
import socket
from collections.abc import AsyncIterator, Awaitable

import msgspec
import pytest

from proxy import mail
from proxy.mail import Mail, Question
from tests.harness.waiting import eventually

KEY = (4711, b"secret")


class Office:
    """Workers with their mailboxes; each notes what it has cancelled."""

    def __init__(self, workers: int) -> None:
        self.boxes = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(workers)]
        for inbox, outbox in self.boxes:
            inbox.setblocking(False)  # noqa: FBT003 the socket module takes it by position
            outbox.setblocking(False)  # noqa: FBT003 as above
        self.knows: dict[int, tuple[int, bytes]] = {}
        self.cancelled: list[tuple[int, str]] = []
        self.may_finish = asyncio.Event()
        self.may_finish.set()
        outboxes = [outbox for _, outbox in self.boxes]
        self.mails = [
            Mail(number, self.boxes[number - 1][0], outboxes, self._canceller(number))
            for number in range(1, workers + 1)
        ]

    def _canceller(self, worker: int) -> mail.Cancel:
        def cancel(pid: int, secret: bytes, address: str) -> Awaitable[None] | None:
            return self._cancel(worker, address) if self.knows.get(worker) == (pid, secret) else None

        return cancel

    async def _cancel(self, worker: int, address: str) -> None:
        await self.may_finish.wait()
        self.cancelled.append((worker, address))

    def open(self, *workers: int) -> None:
        """Have these read their mail."""
        for number in workers:
            self.mails[number - 1].open()

    def waits(self, worker: int) -> bool:
        """Whether there is something in its mailbox."""
        return bool(select.select([self.boxes[worker - 1][0]], [], [], 0)[0])

    def fill(self, worker: int) -> None:
        """Fill its mailbox. Raises BlockingIOError."""
        while True:
            self.boxes[worker - 1][1].send(b"x" * 1000)

    def close(self, *workers: int) -> None:
        """Have these stop."""
        for number in workers:
            self.mails[number - 1].close()


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    """Three workers that read their mail."""
    made = Office(3)
    made.open(1, 2, 3)
    yield made
    made.close(1, 2, 3)
    for one in (end for box in made.boxes for end in box):
        one.close()


async def test_it_is_found(office: Office) -> None:
    """By the one worker that knows the key, once."""
    office.knows = {3: KEY}
    assert await office.mails[0].ask(*KEY, "10.0.0.1")
    assert office.cancelled == [(3, "10.0.0.1")]


async def test_nobody_knows_it(office: Office) -> None:
    """Said as soon as all have answered; one's own keys are not asked for."""
    office.knows = {1: KEY, 2: (4711, b"other!")}
    assert not await office.mails[0].ask(*KEY, "10.0.0.1")
    assert office.cancelled == []


async def test_the_answer_comes_when_it_is_done(office: Office) -> None:
    """Not before: the client takes the close of its connection for that."""
    office.knows = {2: KEY}
    office.may_finish.clear()
    asking = asyncio.get_running_loop().create_task(office.mails[0].ask(*KEY, "10.0.0.1"))
    done, _ = await asyncio.wait([asking], timeout=0.1)
    assert not done
    office.may_finish.set()
    assert await asking


async def test_a_worker_that_is_silent(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for, but not for ever; and what it finds in its mailbox later is too old to be obeyed."""
    monkeypatch.setattr(mail, "STALE_S", 0.05)
    office.close(3)
    office.knows = {3: KEY}
    assert not await office.mails[0].ask(*KEY, "10.0.0.1")
    office.open(3)
    await eventually(lambda: not office.waits(3))
    assert office.cancelled == []


async def test_a_cancel_that_takes_too_long(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner was found, and that is what is said; nobody waits for ever for a PostgreSQL that hangs."""
    monkeypatch.setattr(mail, "PATIENCE_S", 0.05)
    office.knows = {2: KEY}
    office.may_finish.clear()
    assert await office.mails[0].ask(*KEY, "10.0.0.1")
    assert office.cancelled == []
    office.may_finish.set()
    await eventually(lambda: office.cancelled)


async def test_a_full_mailbox(office: Office) -> None:
    """Whoever reads nothing is passed over, at once."""
    office.close(2, 3)
    for number in (2, 3):
        with pytest.raises(BlockingIOError):
            office.fill(number)
    assert not await office.mails[0].ask(*KEY, "10.0.0.1")


async def test_too_many_questions(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up keys do not add up: beyond the bound they find nobody, without asking."""
    monkeypatch.setattr(mail, "MOST_QUESTIONS", 1)
    monkeypatch.setattr(mail, "STALE_S", 0.1)
    office.close(2, 3)
    first = asyncio.get_running_loop().create_task(office.mails[0].ask(*KEY, "10.0.0.1"))
    await asyncio.sleep(0)
    assert not await asyncio.wait_for(office.mails[0].ask(*KEY, "10.0.0.2"), 0.05)
    assert not await first


async def test_rubbish(office: Office) -> None:
    """Is passed over."""
    office.knows = {2: KEY}
    office.boxes[1][1].send(b"rubbish")
    office.boxes[0][1].send(msgspec.msgpack.encode(mail.Answer(number=1, says="mine")))
    assert await office.mails[0].ask(*KEY, "10.0.0.1")


def test_a_question_fits_a_letter() -> None:
    """The longest secret and address there are."""
    question = Question(number=2**62, worker=16, asked=1e9, pid=2**31 - 1, secret=bytes(256), address="f" * 60)
    assert len(msgspec.msgpack.encode(question)) < mail.LETTER_BYTES
