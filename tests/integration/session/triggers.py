"""What ends a session, and what its record and its client are then told: one entry each, to be pulled on a `Stand`."""

import asyncio
import shutil
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.contract.directive import Kill, Lock, Locked, Revoke, Unlock
from proxy.contract.record import EndReason, Outcome
from tests.harness.waiting import eventually
from tests.harness.wire import query
from tests.integration.session.stops import Case

if TYPE_CHECKING:
    from tests.integration.session.matrix import Running, Stand

LONG_S = 600.0
PAGE_BYTES = 4_096
ORDERS, STRICT, SHORT = "orders", "strict", "short"
"""The usual target; the one whose sessions end with the lease; the one that gives statements FINISH_S to finish."""
FINISH_S = 1.0
IDLE_S = 1.0
LOCK = "lck_matrix"
ONE_MORE = query(f"SELECT 1 -- {'x' * 2 * PAGE_BYTES}")
"""A statement that is longer than what the journal's last page may still have room for."""

Pull = Callable[["Stand", Sequence["Running"]], Awaitable[None]]


async def _nothing(_: "Stand") -> None:
    """There is nothing to put in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """One thing that ends sessions."""

    name: str
    reason: EndReason
    """What the record says of it."""
    says: str
    """What the client reads, in part."""
    pull: Pull
    """Have it happen to these sessions. It returns at once: what follows is what is measured."""
    undo: Callable[["Stand"], Awaitable[None]] = _nothing
    """Make the stand good for the next one, once the sessions' clients have heard all."""
    sqlstate: str = "57P01"
    expires: bool = False
    """The grants end by themselves."""
    by_itself: bool = False
    """Each session ends by itself, sooner or later: only the record can tell how soon after the decision."""
    target: str = ORDERS
    idles: bool = False
    """Its sessions may be idle for IDLE_S."""
    finishes: bool = False
    """What runs may end first: it does in some of the sessions, and takes too long (by SHORT) in the others."""
    outcomes: frozenset[Outcome] = frozenset()
    """What the record may say became of the work, besides what it may say in that state."""
    takes: Callable[[Case], bool] = lambda _: True
    """Which states it can end a session in."""


async def _expire(_: "Stand", sessions: Sequence["Running"]) -> None:
    await asyncio.sleep(max(0.0, sessions[0].expires_at - time.time()))  # the grant's end itself


async def _revoke(stand: "Stand", sessions: Sequence["Running"]) -> None:
    for one in sessions:
        at = time.time_ns()
        stand.control.tell(Revoke(cursor=0, at=at, grant=one.grant, expires_at=one.expires_at, by="carol"))


async def _kill(stand: "Stand", sessions: Sequence["Running"]) -> None:
    for one in sessions:
        stand.control.tell(Kill(cursor=0, at=time.time_ns(), session=one.session, by="carol"))


async def _drain(stand: "Stand", _: Sequence["Running"]) -> None:
    stand.proxy.signal(signal.SIGTERM)
    await eventually(lambda: '"draining"' in stand.proxy.log())
    stand.proxy.signal(signal.SIGTERM)


async def _start_again(stand: "Stand") -> None:
    assert stand.proxy.process is not None
    await asyncio.to_thread(stand.proxy.process.wait, within=60)
    await stand.start()


async def _fill_the_disk(stand: "Stand", sessions: Sequence["Running"]) -> None:
    with suppress(OSError), stand.ballast.open("wb", buffering=0) as file:
        while file.write(b"x" * PAGE_BYTES):
            pass
    for one in sessions:
        one.wire.send(ONE_MORE)


async def _lock(stand: "Stand", _: Sequence["Running"]) -> None:
    at = time.time_ns()
    everything = Locked(id=LOCK, by="carol", decided_at=at)
    stand.control.tell(Lock(cursor=0, at=at, lock=everything))


async def _unlock(stand: "Stand") -> None:
    stand.control.tell(Unlock(cursor=0, at=time.time_ns(), lock=LOCK, by="carol"))


async def _lose_lease(stand: "Stand", _: Sequence["Running"]) -> None:
    stand.control.silent = True
    stand.control.tell_raw(b'{"type":"obey me"}\n')  # What cannot be obeyed loses the lease at once.


async def _have_lease(stand: "Stand") -> None:
    stand.control.silent = False
    stand.control.hang_up()
    await stand.ready()


async def _say_nothing(_: "Stand", __: Sequence["Running"]) -> None:
    """As the client has done for a while."""


async def _make_room(stand: "Stand") -> None:
    stand.ballast.unlink()


TRIGGERS = (
    Trigger(name="expiry", reason="expired", says="the grant has expired", pull=_expire, expires=True),
    Trigger(
        name="expiry, to finish",
        reason="expired",
        says="the grant has expired",
        pull=_expire,
        expires=True,
        finishes=True,
    ),
    Trigger(name="revocation", reason="revoked", says="the grant was revoked by carol", pull=_revoke),
    Trigger(name="kill", reason="killed", says="the session was ended by an approver by carol", pull=_kill),
    Trigger(name="lock", reason="locked", says="access was locked by carol", pull=_lock, undo=_unlock),
    Trigger(
        name="lost lease",
        reason="lease_lost",
        says="the proxy has lost contact with the control service",
        target=STRICT,
        pull=_lose_lease,
        undo=_have_lease,
    ),
    Trigger(
        name="idle",
        reason="idle",
        says="the session was idle for too long",
        sqlstate="57P05",
        idles=True,
        by_itself=True,
        pull=_say_nothing,
        takes=lambda case: case.waits is not None and case.waits.startswith("idle"),
    ),
    Trigger(
        name="journal failure",
        reason="journal",
        says="the statement was not executed: its record could not be written",
        sqlstate="58030",
        pull=_fill_the_disk,
        undo=_make_room,
    ),
    Trigger(name="drain", reason="drained", says="the proxy is shutting down", pull=_drain, undo=_start_again),
)


def can_mount() -> bool:
    """Whether there can be a small disk for the journal, without which it cannot be filled."""
    return shutil.which("mount") is not None and subprocess.run(["unshare", "-m", "true"], check=False).returncode == 0
