"""Mail between the workers of a proxy: a cancel request finds the session wherever it is (PROTOCOL row 91).

A CancelRequest comes as a connection of its own, so any worker may get it. One that does not know the key asks all
others; whoever does, cancels and says so, and only then is the client's connection closed, as PostgreSQL does it. Each
worker has one mailbox, a socket pair of the supervisor's that outlives the worker; nobody else can write into it. The
key itself says nothing of the worker: all of its bits stay random.
"""

import asyncio
import itertools
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import structlog

from proxy.tasks import spawn

STALE_S = 2.0
"""How long it may take to find the owner of a key. A question that has waited longer is passed over: nobody waits for
the answer any more, and the session may run another statement by now."""
PATIENCE_S = 12.0
"""How long the owner may take: until PostgreSQL has taken the cancel request."""
MOST_QUESTIONS = 256
"""Under way at once, from one worker. Further ones find nobody, as any made-up key does."""
LETTER_BYTES = 4_096
AT_ONCE = 32
"""Letters read before everybody else gets a turn."""

Cancel = Callable[[int, bytes, str], Awaitable[None] | None]
"""Given pid, secret and where the request came from: cancels what runs. None where the key is not known here."""

log = structlog.get_logger(__name__)


class Question(msgspec.Struct, frozen=True, kw_only=True, tag="question"):
    """Asks whose a key is."""

    number: int
    worker: int
    """Who asks, counted from 1."""
    asked: float
    """By the monotonic clock, which all processes of a machine share."""
    pid: int
    secret: bytes
    address: str


class Answer(msgspec.Struct, frozen=True, kw_only=True, tag="answer"):
    """What a worker says to a question."""

    number: int
    says: Literal["unknown", "mine", "done"]


@dataclass(slots=True)
class _Asked:
    """A question of this worker's that is under way."""

    left: int
    """How many have not said anything."""
    found: asyncio.Future[bool]
    done: asyncio.Event


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Question | Answer] = msgspec.msgpack.Decoder(Question | Answer)


class Mail:
    """One worker's mailbox, and the slots of all others'."""

    def __init__(self, worker: int, inbox: socket.socket, outboxes: Sequence[socket.socket], cancel: Cancel) -> None:
        """`outboxes` are in the order of the workers, this one's own among them."""
        self._worker = worker
        self._inbox = inbox
        self._outboxes = outboxes
        self._cancel = cancel
        self._numbers = itertools.count(time.monotonic_ns())  # an answer to an earlier run of this worker fits none
        self._waiting: dict[int, _Asked] = {}

    def open(self) -> None:
        """Read what comes, from now on."""
        asyncio.get_running_loop().add_reader(self._inbox.fileno(), self._read)

    def close(self) -> None:
        """Read no more."""
        asyncio.get_running_loop().remove_reader(self._inbox.fileno())

    async def ask(self, pid: int, secret: bytes, address: str) -> bool:
        """Have whoever knows this key cancel what it stands for. Whether anybody did."""
        if len(self._waiting) >= MOST_QUESTIONS:
            return False
        question = Question(
            number=next(self._numbers),
            worker=self._worker,
            asked=time.monotonic(),
            pid=pid,
            secret=secret,
            address=address,
        )
        others = [number for number in range(1, len(self._outboxes) + 1) if number != self._worker]
        left = sum(self._send(number, question) for number in others)
        if not left:
            return False
        asked = _Asked(left, asyncio.get_running_loop().create_future(), asyncio.Event())
        self._waiting[question.number] = asked
        try:
            async with asyncio.timeout(STALE_S):
                found = await asked.found
            async with asyncio.timeout(PATIENCE_S):
                if found:
                    await asked.done.wait()
        except TimeoutError:
            return asked.found.done() and not asked.found.cancelled()
        finally:
            del self._waiting[question.number]
        return found

    def _send(self, worker: int, letter: Question | Answer) -> bool:
        try:
            self._outboxes[worker - 1].send(_encoder.encode(letter))
        except OSError as error:  # a full mailbox (EAGAIN) is one that nobody reads
            log.warning("another worker cannot be written to", other=worker, error=error.strerror)
            return False
        return True

    def _read(self) -> None:
        for _ in range(AT_ONCE):
            try:
                data = self._inbox.recv(LETTER_BYTES)
                letter = _decoder.decode(data)
            except (BlockingIOError, InterruptedError):
                return
            except msgspec.MsgspecError:
                log.warning("a letter between workers cannot be read")  # none of what is in it: there is a secret
                continue
            if isinstance(letter, Answer):
                self._take(letter)
            elif time.monotonic() - letter.asked < STALE_S:
                self._look_up(letter)

    def _take(self, answer: Answer) -> None:
        asked = self._waiting.get(answer.number)
        if asked is None:
            return
        if answer.says == "done":
            asked.done.set()
            return
        asked.left -= 1
        if (answer.says == "mine" or not asked.left) and not asked.found.done():
            asked.found.set_result(answer.says == "mine")

    def _look_up(self, question: Question) -> None:
        cancelling = self._cancel(question.pid, question.secret, question.address)
        if cancelling is None:
            self._send(question.worker, Answer(number=question.number, says="unknown"))
        else:
            self._send(question.worker, Answer(number=question.number, says="mine"))
            spawn("cancel for another worker", self._finish(question, cancelling))

    async def _finish(self, question: Question, cancelling: Awaitable[None]) -> None:
        try:
            await cancelling
        finally:
            self._send(question.worker, Answer(number=question.number, says="done"))
