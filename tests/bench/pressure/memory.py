"""The memory that a session costs whose client does not read, or whose PostgreSQL does not (PROTOCOL.md, row 65)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from tests.bench.pressure.finding import Finding
from tests.bench.pressure.stand import DATABASE, LINE, Stand, Way
from tests.harness.waiting import eventually
from tests.harness.wire import Wire, message, query

AIM_KB = 256
SESSIONS = (1, 8, 32)
MEGABYTES = 200
WAITING_S = 60.0
STILL_LOOKS = 30
"""So many looks in a row, 10 ms apart, at which nothing moves any more."""
_ROWS_A_MESSAGE = 64
_CHUNK = message("d", (LINE + "\n").encode() * _ROWS_A_MESSAGE)


@dataclass(slots=True, kw_only=True)
class Load:
    """One direction of transfers that get stuck, and how to see that they are."""

    name: str
    waiting: str
    """What PostgreSQL's backends then wait for (pg_stat_activity.wait_event)."""
    begin: Callable[[Wire, "Load"], None]
    megabytes: int = MEGABYTES
    sent: int = 0
    sending: list[asyncio.Task[None]] = field(default_factory=list)


def unread(megabytes: int = MEGABYTES) -> Load:
    """A result that the client does not read."""
    return Load(name="result unread", waiting="ClientWrite", begin=_ask_and_never_read, megabytes=megabytes)


def untaken(megabytes: int = MEGABYTES) -> Load:
    """A COPY IN that PostgreSQL does not read: it waits for a lock in its first row."""
    return Load(name="COPY IN untaken", waiting="advisory", begin=_copy_in, megabytes=megabytes)


def _ask_and_never_read(wire: Wire, load: Load) -> None:
    rows = load.megabytes * 1_000
    wire.send(query(f"COPY (SELECT '{LINE}' FROM generate_series(1, {rows})) TO STDOUT"))


def _copy_in(wire: Wire, load: Load) -> None:
    async def send() -> None:
        wire.send(query("COPY stuck FROM STDIN"))
        for _ in range(load.megabytes * 1_000 // _ROWS_A_MESSAGE):
            wire.send(_CHUNK)
            await wire.drain()
            load.sent += 1

    load.sending.append(asyncio.get_running_loop().create_task(send()))


def resident_kb(pid: int) -> int:
    """What the process has in memory, what it shares counted by its share (proc(5), smaps_rollup)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Pss:")).split()[1])


async def growth_kb(way: Way, load: Load, sessions: int) -> tuple[int, int]:
    """What so many sessions cost together: idle, and then stuck in the midst of `load`."""
    assert way.proxy.process is not None
    pid = way.proxy.process.pid
    async with _sessions(way, 1) as warm, _stuck(way, load, warm):
        pass  # Code paths taken and pools filled, once.
    before = resident_kb(pid)
    async with _sessions(way, sessions) as wires:
        idle = resident_kb(pid)
        async with _stuck(way, load, wires):
            return idle - before, resident_kb(pid) - idle


@asynccontextmanager
async def _sessions(way: Way, count: int) -> AsyncIterator[list[Wire]]:
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(await way.session()) for _ in range(count)]
        for wire in wires:
            assert await wire.value("SELECT 1") == "1"
        yield wires
        gone = "curfew_sessions_live"
        await eventually(lambda: way.proxy.metrics()[gone] == 0, within=WAITING_S, what="the end of the sessions")


@asynccontextmanager
async def _stuck(way: Way, load: Load, wires: list[Wire]) -> AsyncIterator[None]:
    """Begin, and wait until neither PostgreSQL nor the client gets on."""
    watcher = await way.proxy.cluster.connect(database=DATABASE)
    try:
        await watcher.execute("SELECT pg_advisory_lock(1)")
        for wire in wires:
            load.begin(wire, load)
        await _still(watcher, load, len(wires))
        assert way.proxy.metrics()["curfew_sessions_live"] == len(wires), "a session has ended"
        yield
    finally:
        for task in load.sending:
            task.cancel()
        await asyncio.gather(*load.sending, return_exceptions=True)
        load.sending.clear()
        for wire in wires:
            wire.cut()
        await watcher.close()


async def _still(watcher: "asyncpg.Connection[asyncpg.Record]", load: Load, count: int) -> None:
    seen: list[tuple[int, int]] = []

    async def still() -> bool:
        waiting = await watcher.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND wait_event = $2", DATABASE, load.waiting
        )
        seen.append((waiting, load.sent))
        return len(seen) > STILL_LOOKS and set(seen[-STILL_LOOKS:]) == {(count, load.sent)}

    await eventually(still, within=WAITING_S, what=f"{count} sessions stuck ({load.name})")


async def measure(stand: Stand, say: Callable[[str], None]) -> list[Finding]:
    """Each direction, in clear and over TLS, with more and more sessions, each time in a new process."""
    found = []
    for tls in (False, True):
        for make in (unread, untaken):
            grown: dict[int, int] = {}
            for sessions in SESSIONS:
                with stand.proxy(tls=tls) as way:
                    load = make()
                    idle, grown[sessions] = await growth_kb(way, load, sessions)
                    say(
                        f"memory  {load.name:<16} {way.name:<6} {sessions:>3} sessions"
                        f"  idle {idle / sessions:>6.0f} KB each, stuck {grown[sessions] / sessions:>6.0f} KB more"
                    )
            few, many = SESSIONS[0], SESSIONS[-1]
            what = f"memory: {MEGABYTES} MB {make().name}, {'TLS' if tls else 'plain'}"
            slope = (grown[many] - grown[few]) / (many - few)
            found += [
                Finding(what=f"{what}, a session more", measured=slope, unit="KB", aim=AIM_KB),
                *(
                    Finding(what=f"{what}, {n} sessions, each", measured=grown[n] / n, unit="KB", aim=AIM_KB)
                    for n in SESSIONS
                ),
            ]
    return found
