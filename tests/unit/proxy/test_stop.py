"""What the keeper makes of what it sees, look by look.

The rest is in `tests/integration/stop`, on real servers. Here it sees what none of them can be made to show at a given
look: a backend that is dying, a pid that is somebody else's, a connection that breaks between two statements.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import cast

import pytest

from proxy import stop as module
from proxy.config import read_secret
from proxy.contract.settings import Keeper as Login
from proxy.contract.settings import Target
from proxy.query import Connection, LostError, QueryError, Row
from proxy.stop import HandedOnError, Keeper, KeeperError, _Stop

PID, XID, NEXT_XID = 4711, 900, 1_000
STARTED = datetime(2026, 11, 22, 12, 0, 0, 1, tzinfo=UTC)
MARK = 77
GONE: Row = (None, None, None, None, None, None)


def alive(*, xid: int | None = None, between: bool = False, started: datetime = STARTED) -> Row:
    """A look at a backend that is there."""
    next_xid = None if xid is None else str(NEXT_XID)
    shown = started.isoformat(" ", timespec="microseconds")
    return (str(PID), shown, None if xid is None else str(xid), next_xid, None, "t" if between else "f")


class Server:
    """Answers looks and questions for fates with what a test wants, in order."""

    def __init__(self, *looks: Row, fates: Sequence[str | Exception | None] = ()) -> None:
        self.looks = deque(looks)
        self.fates = deque(fates)
        self.signalled: list[bool] = []
        """At each look."""
        self.marks: list[bool] = []
        """Whether the session's mark was asked for."""

    async def fetch(self, sql: str, *values: str | None, timeout_s: float) -> list[Row]:
        """As `Connection`."""
        assert timeout_s
        if "pg_xact_status" in sql:
            assert str(XID) in (values[0] or "")
            if isinstance(fate := self.fates.popleft(), Exception):
                raise fate
            return [(fate,)]
        self.signalled.append("True" in (values[2] or ""))
        self.marks.append(len(values) > 3)
        return [self.looks.popleft()]


@pytest.fixture
def keeper() -> Keeper:
    """One without a connection."""
    login = Login(user="keeper")
    target = Target(host="127.0.0.1", port=1, database="db", sslmode="disable", keeper=login, access={})
    return Keeper("orders", target, read_secret=lambda secret: read_secret(secret, {}))


def stop_of(*, mark: int | None = None, held: Callable[[], bool] = lambda: True) -> _Stop:
    """Somebody waits for its end."""
    answer = asyncio.get_running_loop().create_future()
    return _Stop(pid=PID, started=STARTED, answer=answer, mark=mark, held=held)


async def look(keeper: Keeper, server: Server, stop: _Stop, times: int = 1) -> None:
    """So many looks."""
    for _ in range(times):
        await keeper._sight_all(cast("Connection", server), [stop])


@pytest.mark.parametrize(("between", "transaction"), [([False, True], "none"), ([True, False], None)])
async def test_where_it_was_at_the_first_look(keeper: Keeper, between: list[bool], transaction: str | None) -> None:
    """Between transactions, it may have committed one that nobody saw. Later on, whoever dies is there."""
    stop = stop_of()
    await look(keeper, Server(*(alive(between=one) for one in between), GONE), stop, times=3)
    assert stop.answer.result().transaction == transaction


async def test_the_transaction_that_it_was_last_seen_in(keeper: Keeper) -> None:
    """A backend gives its id back before it goes."""
    stop = stop_of()
    await look(keeper, Server(alive(xid=XID), alive(), GONE, fates=["aborted"]), stop, times=3)
    assert stop.answer.result().transaction == "aborted"


async def test_a_fate_that_is_not_to_be_had(keeper: Keeper) -> None:
    """Of a standby, for instance: nothing is known then, and the backend is gone all the same."""
    stop = stop_of()
    refused = QueryError("0A000", "recovery is in progress")
    await look(keeper, Server(alive(xid=XID), GONE, fates=[refused]), stop, times=2)
    assert (stop.answer.result().seen, stop.answer.result().transaction) == (True, None)


async def test_when_it_was_first_seen_to_be_gone(keeper: Keeper) -> None:
    """Counts, though the connection breaks before its transaction could be asked about."""
    stop = stop_of()
    server = Server(alive(xid=XID), GONE, GONE, fates=[LostError("cut"), "aborted"])
    await look(keeper, server, stop)
    with pytest.raises(LostError):
        await look(keeper, server, stop)
    known = time.time_ns()
    await look(keeper, server, stop)
    assert stop.answer.result().gone_at <= known


async def test_the_signal(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the first look, not at each, and again where it has not ended."""
    stop = stop_of()
    server = Server(*[alive()] * 4)
    await look(keeper, server, stop, times=2)
    monkeypatch.setattr(module, "SIGNAL_AGAIN_S", 0.0)
    stop.signal_at = 0.0
    await look(keeper, server, stop, times=2)
    assert server.signalled == [True, False, True, True]


async def test_a_pid_that_is_somebody_elses(keeper: Keeper) -> None:
    """The backend is gone, and was never seen."""
    stop = stop_of()
    await look(keeper, Server(alive(started=datetime(2026, 11, 22, 13, tzinfo=UTC))), stop)
    assert not stop.answer.result().seen


async def test_a_marked_backend(keeper: Keeper) -> None:
    """A pooler's: ended where it has the mark. Once it was told to end it gives its locks back, and is still ours."""
    stop = stop_of(mark=MARK, held=lambda: False)
    server = Server((*alive(), "t"), alive(), GONE)
    await look(keeper, server, stop, times=3)
    assert stop.answer.result().seen
    assert server.marks == [True, False, False]


async def test_a_backend_that_has_lost_its_mark(keeper: Keeper) -> None:
    """Between two looks before any signal: it is somebody else's by now, and is let be."""
    stop = stop_of(mark=MARK, held=lambda: False)
    await look(keeper, Server((*alive(), "f")), stop)
    with pytest.raises(HandedOnError):
        stop.answer.result()


async def test_a_backend_that_is_held(keeper: Keeper) -> None:
    """While our connection to the pooler is open it is nobody else's, mark or none."""
    stop = stop_of(mark=MARK)
    server = Server(alive(), GONE)
    await look(keeper, server, stop, times=2)
    assert stop.answer.result().seen
    assert server.marks == [False, False]


async def test_what_was_tried_for_long_enough(keeper: Keeper) -> None:
    """Is given up; what was not goes on."""
    old, new = stop_of(), stop_of()
    old.forget_at = 0.0
    keeper._stops = [old, new]
    keeper._forget()
    assert keeper._stops == [new]
    with pytest.raises(KeeperError, match="could not be ended in 600 s"):
        old.answer.result()
