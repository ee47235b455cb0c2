"""Campaign `network`: what a network can do to either leg, while a session does what sessions do.

Each session goes through a relay on both legs, which strikes at a random moment. Some faults the proxy notices at once;
what only looks like a slow or silent peer it cannot, and then the end of the grant is what ends the session. Each time:
the backend is gone in time, nothing that was open was committed, and the record is closed with the right reason.
"""

import asyncio
import itertools
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import asyncpg

from proxy.contract.record import SessionEnd, SessionStart, decode
from tests.faults.accounts import backends, broken, doubled, executed, recorded, unended
from tests.faults.progress import Progress
from tests.faults.result import Plan, Result
from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.relay import Link, Relay, latency, slow
from tests.harness.tokens import grant as make_grant
from tests.harness.waiting import TooLateError, eventually
from tests.harness.wire import TERMINATE, Wire
from tests.integration.session.stops import CASES, ROWS, Case

Watcher: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

DATABASE = "bench"
AT_ONCE = 6
"""Sessions at a time, each with tables of its own."""
WITHIN_S = 3.0
"""From the fault, or from the end of the grant where nobody can notice it, to the end of the backend."""
GRANT_S = 2.5
LONG_S = 600.0
DECIDED_S = 0.2
STRIKE_S = (0.0, 0.2)
SLOW_BYTES_PER_S = 20_000.0
LATENCY_S = 0.05
STATES = tuple(
    case
    for case in CASES
    if case.name
    in (
        "idle",
        "idle in transaction",
        "a running UPDATE",
        "a running UPDATE by the extended protocol",
        "COPY in",
        "COPY out to a client that does not read",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that a network does. `strike` gets the client's link and the upstream one."""

    name: str
    strike: Callable[[Link, Link], None] = lambda _client, _upstream: None
    reasons: frozenset[str] = frozenset({"expired"})
    """What the record may say of the session's end."""
    noticed: bool = False
    """Whether the proxy can notice it; else the grant's end counts."""
    line: str = "plain"
    """The relay between client and proxy."""
    leaves: bool = False
    """The client then goes by itself: with Terminate, which PostgreSQL takes in its turn; without where it is busy."""


def both_stall(client: Link, upstream: Link) -> None:
    """Nobody reads anything any more."""
    client.stall()
    upstream.stall()


LEFT = frozenset({"closed", "client_lost"})
BROKE = frozenset({"upstream"})
FAULTS = (
    Fault(name="client reset", strike=lambda client, _: client.reset(), reasons=LEFT, noticed=True),
    Fault(name="upstream reset", strike=lambda _, upstream: upstream.reset(), reasons=BROKE, noticed=True),
    Fault(name="reset for the client", strike=lambda client, _: client.lose("server"), reasons=LEFT, noticed=True),
    Fault(name="reset by upstream", strike=lambda _, upstream: upstream.lose("client"), reasons=BROKE, noticed=True),
    Fault(name="client half-open", strike=lambda client, _: client.lose("client")),
    Fault(name="upstream half-open", strike=lambda _, upstream: upstream.lose("server")),
    Fault(name="client stalls", strike=lambda client, _: client.stall()),
    Fault(name="upstream stalls", strike=lambda _, upstream: upstream.stall()),
    Fault(name="client deaf", strike=lambda client, _: client.deafen()),
    Fault(name="upstream deaf", strike=lambda _, upstream: upstream.deafen()),
    Fault(name="both stall", strike=both_stall),
    Fault(name="a slow reader", line="slow"),
    Fault(name="a slow line", line="late", reasons=LEFT, noticed=True, leaves=True),
)


@dataclass(slots=True, kw_only=True)
class Stand:
    """What the sessions go through."""

    proxy: Proxy
    upstream: Relay
    lines: dict[str, Relay]
    tried: dict[str, tuple[Fault, Case]] = field(default_factory=dict)
    """By grant."""
    took: dict[str, float] = field(default_factory=dict)
    """Seconds to the end of the backend, by grant."""


def campaign(plan: Plan, folder: Path) -> Result:
    """Strike once a round."""
    ca = Authority(folder)
    with Cluster(ca, log_statements=True) as cluster:
        roles.install(cluster)
        roles.create_database(cluster, DATABASE)
        for number in range(AT_ONCE):
            cluster.psql(
                f"CREATE SCHEMA slot{number} AUTHORIZATION {roles.APP.user}; SET ROLE {roles.APP.user};"
                f"CREATE TABLE slot{number}.work AS SELECT generate_series(1, {ROWS}) AS n",
                database=DATABASE,
            )
        return asyncio.run(_campaign(plan, cluster, ca, folder))


async def _campaign(plan: Plan, cluster: Cluster, ca: Authority, folder: Path) -> Result:
    async with _stand(cluster, ca, folder) as stand:
        await _sessions(stand, 0, [(FAULTS[-1], STATES[0])], Progress("network", 1))
        before = await _settled(stand, 0)
        queue = list(itertools.islice(itertools.cycle(_pairs()), plan.rounds))
        progress = Progress("network", plan.rounds)
        async with asyncio.TaskGroup() as group:
            for number in range(AT_ONCE):
                group.create_task(_sessions(stand, number, queue, progress))
        leftover = max(0, await _settled(stand, before) - before)  # what was passing before is no debt
        proxy = stand.proxy
        leftover += len(backends(cluster)) + len(unended(proxy)) + broken(proxy) + await _changed(cluster)
        leftover += _wrong(stand)
        kept, ran = recorded(proxy), executed(cluster)
        print(_summary(stand))  # noqa: T201 a command speaks to its caller
        return Result(
            campaign="network",
            rounds=plan.rounds,
            lost=(ran - kept).total(),
            doubled=doubled(kept - ran),
            late=sum(took > WITHIN_S for took in stand.took.values()),
            leftover=leftover,
        )


def _pairs() -> Sequence[tuple[Fault, Case]]:
    """Every fault in every state, in an order in which the first few have as many of either as there can be."""
    count = len(FAULTS) * len(STATES)
    return [(FAULTS[at % len(FAULTS)], STATES[(at + at // len(FAULTS)) % len(STATES)]) for at in range(count)]


@asynccontextmanager
async def _stand(cluster: Cluster, ca: Authority, folder: Path) -> AsyncIterator[Stand]:
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Relay(cluster.port))
        proxy = Proxy(
            cluster=cluster, ca=ca, folder=folder / "proxy", target={"port": upstream.port}, database=DATABASE
        )
        stack.callback(proxy.close)
        await asyncio.to_thread(proxy.start)
        lines = {
            "plain": Relay(proxy.port),
            "slow": Relay(proxy.port, server=[slow(SLOW_BYTES_PER_S)], buffer_bytes=8_192),
            "late": Relay(proxy.port, client=[latency(LATENCY_S)], server=[latency(LATENCY_S)]),
        }
        for line in lines.values():
            await stack.enter_async_context(line)
        yield Stand(proxy=proxy, upstream=upstream, lines=lines)
        await asyncio.to_thread(proxy.close)


async def _sessions(stand: Stand, number: int, queue: list[tuple[Fault, Case]], progress: Progress) -> None:
    """One after the other, with the tables of this number, until the queue is empty."""
    watcher = await stand.proxy.cluster.connect()
    while queue:
        fault, case = queue.pop(0)
        await _session(stand, number, watcher, fault, case)
        progress.step()
    await watcher.close()


async def _session(stand: Stand, number: int, watcher: Watcher, fault: Fault, case: Case) -> None:
    """One session, what it does, the strike, and its end."""
    grant = new_grant_id()
    stand.tried[grant] = fault, case
    line = stand.lines[fault.line]
    ends_at = time.time() + (LONG_S if fault.noticed else GRANT_S)
    token = stand.proxy.signer.token(make_grant(id=grant, profile="app"), exp=ends_at)
    async with await Wire.tls(line.port, stand.proxy.ca.client_context()) as wire:
        options = ("options", f"-c search_path=slot{number}")
        await wire.log_in(token, ("user", "dba1"), ("database", "orders"), options)
        await case.begin(wire)
        address = await watcher.fetchrow("SELECT client_port FROM pg_stat_activity WHERE pid = $1", wire.pid)
        assert address is not None, f"{fault.name}, {case.name}: ended before the strike"
        links = line.link_from(wire.socket.getsockname()[1]), stand.upstream.link_to(address["client_port"])
        await asyncio.sleep(random.uniform(*STRIKE_S))  # at any moment: that is the point
        fault.strike(*links)
        if fault.leaves:
            wire.send(b"" if case.waits == "active" else TERMINATE)
            wire.close()
        since = time.time() if fault.noticed else ends_at
        with suppress(TooLateError):
            await eventually(lambda: _gone(watcher, wire.pid), within=WITHIN_S * 3 + max(0.0, since - time.time()))
        stand.took[grant] = max(0.0, time.time() - since)
        with suppress(TooLateError):  # what we cut below is then no reason for the end
            await (stand.proxy.session_of(grant) if fault.noticed else _over(ends_at))
        for link in links:
            link.cut()


async def _over(ends_at: float) -> None:
    """Wait until the grant's end has been decided."""
    await asyncio.sleep(max(0.0, ends_at + DECIDED_S - time.time()))  # nothing else tells of a decision


async def _gone(watcher: Watcher, pid: int) -> bool:
    return not await watcher.fetch("SELECT FROM pg_stat_activity WHERE pid = $1", pid)


async def _settled(stand: Stand, at_most: float) -> int:
    """What the proxy holds on to once nobody is there: descriptors and tasks."""

    def held() -> int:
        return stand.proxy.descriptors() + int(stand.proxy.metrics()["curfew_tasks"])

    await eventually(lambda: stand.proxy.metrics()["curfew_sessions_live"] == 0)
    with suppress(TooLateError):
        await eventually(lambda: held() <= at_most)
    return held()


async def _changed(cluster: Cluster) -> int:
    """How many rows anybody has changed: all that was open was to be rolled back."""
    counted = [
        await cluster.sql(f"SELECT count(*) AS n FROM slot{number}.work WHERE n <= 0", database=DATABASE)
        for number in range(AT_ONCE)
    ]
    return sum(rows[0]["n"] for rows in counted)


def _wrong(stand: Stand) -> int:
    """How many sessions' records do not say what happened; which, on standard error."""
    found = 0
    for lines in stand.proxy.sessions().values():
        first, last = decode(lines[0]), decode(lines[-1])
        assert isinstance(first, SessionStart)
        fault, case = stand.tried[first.grant]
        outcomes = case.outcomes | {"unknown", "rolled back", "nothing open"}
        if not (isinstance(last, SessionEnd) and last.reason in fault.reasons and last.outcome in outcomes):
            found += 1
            print(f"{fault.name}, {case.name}: {last}", file=sys.stderr)  # noqa: T201 a command speaks to its caller
    return found


def _summary(stand: Stand) -> str:
    took = sorted(stand.took.values())
    slowest = max(stand.took, key=lambda grant: stand.took[grant])
    fault, case = stand.tried[slowest]
    return (
        f"network: {len(took)} sessions; the backend's end after {took[len(took) // 2]:.2f} s (median),"
        f" {took[-1]:.2f} s (longest: {fault.name}, {case.name})"
    )
