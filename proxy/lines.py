"""The supervisor's ends of the lines to its workers: orders, and questions with a time limit for the answer.

Orders are given in the event loop, questions asked in the thread of the operators' port. See `proxy.worker` for the
other ends.
"""

import contextlib
import itertools
import select
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from proxy.contract.directive import Orphan
from proxy.orphans import AT_ONCE
from proxy.worker import LETTER_BYTES, Adopt, Ask, Command, Order, Question, Reply

ANSWER_S = 2.0
"""For all workers together: one that hangs must not keep the others' answers back."""


class Lines:
    """One line for each worker that runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[int, socket.socket] = {}
        self._numbers = itertools.count(1)

    def open(self, worker: int, line: socket.socket) -> None:
        """Use this line to `worker`."""
        with self._lock:
            self._open[worker] = line

    def close(self, worker: int) -> None:
        """Use it no more; whoever opened it may close it now."""
        with self._lock:
            self._open.pop(worker, None)

    def tell(self, worker: int, order: Order) -> None:
        """Give an order. A worker that is dead or does not listen gets none."""
        if (line := self._open.get(worker)) is not None:
            with contextlib.suppress(OSError):
                line.send(msgspec.json.encode(Command(order=order)), socket.MSG_DONTWAIT)

    def give(self, worker: int, orphans: list[Orphan]) -> None:
        """Have it end these. Where that does not reach it, whoever takes the dead worker's place does it later."""
        if (line := self._open.get(worker)) is not None:
            with contextlib.suppress(OSError):
                for first in range(0, len(orphans), AT_ONCE):
                    letter = Adopt(orphans=orphans[first : first + AT_ONCE])
                    line.send(msgspec.json.encode(letter), socket.MSG_DONTWAIT)

    def ask(self, what: Ask, workers: Iterable[int]) -> dict[int, Any]:
        """The answers of those `workers` that give one in time."""
        number = next(self._numbers)
        deadline = time.monotonic() + ANSWER_S
        with contextlib.ExitStack() as stack:
            with self._lock:  # copies: an original may be closed meanwhile, and its number be another file's
                lines = {one: stack.enter_context(self._open[one].dup()) for one in workers if one in self._open}
            for line in lines.values():
                with contextlib.suppress(OSError):
                    line.send(msgspec.json.encode(Question(number=number, ask=what)), socket.MSG_DONTWAIT)
            return dict(_answers(lines, number, deadline))


def _answers(lines: dict[int, socket.socket], number: int, deadline: float) -> Iterator[tuple[int, Any]]:
    for worker, line in lines.items():
        waiting = select.poll()
        waiting.register(line, select.POLLIN)
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            while waiting.poll(max(0.0, deadline - time.monotonic()) * 1000):
                if not (data := line.recv(LETTER_BYTES, socket.MSG_DONTWAIT)):
                    break
                reply = msgspec.json.decode(data, type=Reply)
                if reply.number == number:  # else an answer that came too late for its question
                    yield worker, reply.answer
                    break
