"""The line between supervisor and worker, both ends of it, and a worker's share of the limits."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from proxy import lines
from proxy.config import ProxySettings
from proxy.contract.directive import Orphan
from proxy.lines import Lines
from proxy.orphans import AT_ONCE
from proxy.worker import LOST, Ask, Line, share
from tests.harness.processes import run
from tests.harness.waiting import eventually

FOR_EVER_S = 1e6
"""What a worker that is lost has here for its end: then it would end this very process."""


class Ends:
    """A line with a worker at one end, which notes what it is told, and the supervisor's lines at the other."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.lines = Lines()
        self.lines.open(1, self.ours)
        self.heard: list[str] = []
        self.answers: dict[str, Any] = {"livez": [], "readyz": ["a fault"], "metrics": {"a": 1.0}}

    def serve(self) -> None:
        """Have the worker listen."""
        asks: tuple[Ask, ...] = ("livez", "readyz", "metrics")
        Line(
            self.theirs,
            answers={ask: self.answer(ask) for ask in asks},
            obey=self.heard.append,
            adopt=lambda left: self.heard.extend(str(one.pid) for one in left),
            lost=lambda: self.heard.append("lost"),
            grace_s=lambda: FOR_EVER_S,
        ).start()

    def answer(self, ask: Ask) -> Any:  # noqa: ANN401 a function of whatever it answers
        """What answers this question."""
        return lambda: self.answers[ask]

    async def ask(self, what: Ask) -> dict[int, Any]:
        """The supervisor's question to worker 1 and to one that is not there."""
        return await asyncio.to_thread(self.lines.ask, what, [1, 2])


@pytest.fixture
def ends() -> Iterator[Ends]:
    """One."""
    made = Ends()
    yield made
    made.ours.close()


async def test_questions_and_orders(ends: Ends) -> None:
    """Orders are obeyed in the event loop, in order; questions are answered by whoever is there."""
    ends.lines.tell(1, "reload")
    ends.serve()
    ends.lines.tell(1, "drain")
    ends.lines.tell(2, "drain")
    await eventually(lambda: ends.heard == ["reload", "drain"])
    assert await ends.ask("readyz") == {1: ["a fault"]}
    assert await ends.ask("metrics") == {1: {"a": 1.0}}


async def test_orphans(ends: Ends) -> None:
    """All of them arrive, in letters of a size that goes through; given to one that is dead, they are lost unharmed."""
    left = [
        Orphan(session="0" * 36, target="t" * 63, server=None, pid=pid, started="s" * 32)
        for pid in range(2 * AT_ONCE + 1)
    ]
    ends.serve()
    ends.lines.give(1, left)
    ends.lines.give(2, left)
    await eventually(lambda: ends.heard == [str(one.pid) for one in left])


async def test_the_supervisor_dies(ends: Ends) -> None:
    """Its end of the line closes: the worker is told."""
    ends.serve()
    ends.ours.close()
    await eventually(lambda: ends.heard == ["lost"])


async def test_a_worker_that_does_not_answer(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is not waited for; its answer to an earlier question is not taken for one to a later question."""
    monkeypatch.setattr(lines, "ANSWER_S", 0.05)
    assert await ends.ask("readyz") == {}
    ends.serve()
    monkeypatch.setattr(lines, "ANSWER_S", 10.0)
    assert await ends.ask("livez") == {1: []}


async def test_a_worker_that_is_dead(ends: Ends) -> None:
    """Answers nothing, at once, and orders to it are lost without harm."""
    ends.theirs.close()
    assert await asyncio.wait_for(ends.ask("livez"), 1) == {}
    ends.lines.tell(1, "drain")
    ends.lines.close(1)
    assert await ends.ask("livez") == {}


async def test_a_question_that_breaks_something(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is not answered; the next one is."""
    monkeypatch.setattr(lines, "ANSWER_S", 0.5)
    del ends.answers["metrics"]
    ends.serve()
    assert await ends.ask("metrics") == {}
    assert await ends.ask("livez") == {1: []}


HANGING = """
import asyncio, socket, sys, threading
from proxy import worker

async def hang():
    worker.LOOK_S = 0.01
    line = socket.socket(fileno=0)
    answers = {"livez": lambda: sys.argv[1:]}
    worker.Line(line, answers=answers, obey=print, adopt=print, lost=print, grace_s=lambda: 0.1).start()
    threading.Event().wait()

asyncio.run(hang())
"""


def test_the_supervisor_dies_and_the_event_loop_hangs() -> None:
    """The worker ends all the same: nobody is left to control it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, subprocess.Popen([sys.executable, "-c", HANGING], stdin=theirs.fileno()) as process:
        ours.close()
        assert process.wait(20) == LOST


def test_the_event_loop_hangs() -> None:
    """The worker ends, for another one to end its sessions, while the supervisor lives."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-c", HANGING, "the event loop has not come round"]
    with ours, theirs, subprocess.Popen(command, stdin=theirs.fileno(), stdout=subprocess.PIPE) as process:
        told = process.communicate(timeout=20)[0]
    assert process.returncode == LOST
    assert b"the event loop hangs: ending this worker" in told


def test_by_hand() -> None:
    """`--worker` is for the supervisor: without its socket as standard input, it is said what to do instead."""
    done = run([sys.executable, "-m", "proxy.cli", "serve", "--worker"], check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "curfew-proxy: --worker is for the supervisor; start the proxy with `curfew-proxy serve`\n"


def test_share() -> None:
    """What is for the proxy as a whole is divided, and never adds up to more; sessions are counted otherwise."""
    needed = dict.fromkeys(("name", "tls_certificate_file", "tls_key_file", "jwks_file", "issuer", "audience"), "x")
    whole = msgspec.convert({**needed, "workers": 3}, ProxySettings)
    part = share(whole, 3)
    assert (part.max_connections, part.max_unauthenticated, part.max_unauthenticated_per_address) == (666, 166, 33)
    assert part.journal.limit_bytes * 3 <= whole.journal.limit_bytes < part.journal.limit_bytes * 3 + 3
    assert part.journal.limit_bytes >= 4 * part.journal.segment_bytes
    assert part.max_sessions == whole.max_sessions
