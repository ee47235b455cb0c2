"""Campaign `soak`: pgbench and people for a time, while clients are killed, backends ended, grants revoked and short.

Afterwards the proxy holds on to nothing: no session, descriptor, task, upstream connection or memory; and for each
statement that PostgreSQL executed there is one record.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.contract.directive import Revoke
from tests.faults.accounts import backends, broken, doubled, executed, recorded, unended
from tests.faults.progress import EVERY_S, to_stderr
from tests.faults.result import Plan, Result
from tests.harness import roles
from tests.harness.binaries import postgresql_bin
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.processes import Process, run
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.relay import reset
from tests.harness.tokens import grant as make_grant
from tests.harness.waiting import TooLateError, eventually
from tests.harness.wire import SYNC, TERMINATE, Refused, Wire, cancel_request, one_by_one, query
from tests.integration.link.stand_in import JOIN_TOKEN, StandIn

DATABASE = "bench"
BENCHES = 3
PEOPLE = 4
CLIENTS = 2
TRANSACTIONS_PER_S = 5
"""Of each pgbench, so that the logs of a long run can still be read."""
MODES = (["-M", "simple"], ["-M", "extended"], ["-M", "prepared"], ["-M", "simple", "-C"])
BENCH_S = (1.0, 15.0)
CHAOS_EVERY_S = (0.2, 1.0)
SLEEP = "SELECT pg_sleep(60)"
LONG_S = 3_600.0
SHORT_S = (1.0, 2.0)
WARM = 0.2
"""The part of the time after which memory may no longer grow."""
GROWTH_BYTES = 16 << 20
GONE = (EOFError, ConnectionError, Refused, OSError)


@dataclass(slots=True, kw_only=True)
class Soak:
    """The run."""

    proxy: Proxy
    control: StandIn
    until: float = 0.0
    """On the monotonic clock."""
    did: Counter[str] = field(default_factory=Counter)
    """How often what was done."""
    grants: set[str] = field(default_factory=set)
    """Those of the pgbenches that run."""

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self.until

    def revoke(self, grant: str) -> None:
        """As control does."""
        now = time.time()
        self.control.tell(Revoke(cursor=0, at=time.time_ns(), grant=grant, expires_at=now + LONG_S, by="soak"))

    # pgbench.

    async def bench(self) -> None:
        """One pgbench after the other; each ends by itself, is killed, or loses its grant."""
        while not self.over:
            grant = new_grant_id()
            token = self.proxy.token(id=grant, lasts_s=LONG_S)
            length = random.uniform(*BENCH_S)
            fate = random.choice(["ends", "killed", "killed", "revoked"])
            options = ["-n", "-c", CLIENTS, "-R", TRANSACTIONS_PER_S, "-T", int(length) + 1, *random.choice(MODES)]
            command: list[str | Path] = [postgresql_bin() / "pgbench", *map(str, options)]
            process = Process(command, environment=self.proxy.psql_env(token, PGDATABASE=f"orders/{DATABASE}"))
            self.grants.add(grant)
            try:
                if fate != "ends":
                    await self._rest(random.uniform(0.1, length))
                    self.did[f"pgbench {fate}"] += 1
                    if fate == "killed":
                        await asyncio.to_thread(process.kill)
                    else:
                        self.revoke(grant)
                await self._ended(process)
            finally:
                self.grants.discard(grant)
                await asyncio.to_thread(process.kill)

    async def _ended(self, process: Process) -> None:
        with suppress(TooLateError):
            await eventually(lambda: not process.running, within=BENCH_S[1] + 10)

    async def _rest(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, max(0.0, self.until - time.monotonic())))  # work is done meanwhile

    # People.

    async def person(self) -> None:
        """One session after the other: some statements, then one of the ends there are."""
        while not self.over:
            name, fate = random.choice(list(FATES.items()))
            grant = new_grant_id()
            lasts = random.uniform(*SHORT_S) if name == "expires" else LONG_S
            token = self.proxy.signer.token(make_grant(id=grant, profile="app"), exp=time.time() + lasts)
            self.did[f"person {name}"] += 1
            with suppress(*GONE):
                async with self.proxy.wire(token, database=f"orders/{DATABASE}") as wire:
                    await work(wire)
                    await fate(self, wire, grant)

    # Chaos.

    async def chaos(self) -> None:
        """Now and then a statement is cancelled or a backend ended, whosever it is, on the server itself."""
        connection = await self.proxy.cluster.connect()
        while not self.over:
            await self._rest(random.uniform(*CHAOS_EVERY_S))
            what = random.choice(["pg_terminate_backend", "pg_cancel_backend"])
            self.did[what] += await connection.fetchval(
                f"SELECT count({what}(pid)) FROM (SELECT pid FROM pg_stat_activity WHERE usename = $1"
                " ORDER BY random() LIMIT 1) AS one",
                roles.APP.user,
            )
        await connection.close()

    async def run(self, seconds: float) -> None:
        """All of it, for so long."""
        self.until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(BENCHES):
                group.create_task(self.bench())
            for _ in range(PEOPLE):
                group.create_task(self.person())
            group.create_task(self.chaos())
            group.create_task(self.tell())

    async def tell(self) -> None:
        """Say now and then how far it is."""
        while not self.over:
            await self._rest(EVERY_S)
            to_stderr(f"soak: {max(0.0, self.until - time.monotonic()):.0f} s left, {self.did.total()} things done")


async def work(wire: Wire) -> None:
    """A few statements of different kinds."""
    for _ in range(random.randrange(4)):
        await wire.run(f"SELECT {random.randrange(10**6)} AS one")
        wire.send(one_by_one("SELECT $1::text", str(random.randrange(10**6))) + SYNC)
        await wire.until("Z")
        await wire.run("BEGIN")
        await wire.run(f"INSERT INTO notes VALUES ({random.randrange(10**6)})")
        await wire.run(random.choice(["COMMIT", "ROLLBACK"]))


async def leaves(_: Soak, wire: Wire, __: str) -> None:
    """Terminate."""
    wire.send(TERMINATE)
    await wire.rest()


async def vanishes(_: Soak, wire: Wire, __: str) -> None:
    """The socket closes, in the midst of a statement or not."""
    if random.random() < 0.5:
        wire.send(query(SLEEP))
        await wire.drain()
    wire.cut()


async def is_reset(_: Soak, wire: Wire, __: str) -> None:
    """RST, in the midst of a COPY."""
    wire.send(query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 10000)) TO STDOUT"))
    await wire.until("d")
    reset(wire.writer)


async def cancels(soak: Soak, wire: Wire, __: str) -> None:
    """A CancelRequest for what runs; then it goes on."""
    wire.send(query(SLEEP))
    await wire.drain()
    async with await Wire.plain(soak.proxy.port) as asking:
        asking.send(cancel_request(wire.pid, wire.secret))
        await asking.bytes_left()
    with suppress(TooLateError):  # it came before the statement did
        await wire.until("Z", within=2)
        await wire.run("SELECT 'on'")


async def is_revoked(soak: Soak, wire: Wire, grant: str) -> None:
    """In the midst of a statement."""
    wire.send(query(SLEEP))
    soak.revoke(grant)
    await wire.rest()


async def expires(_: Soak, wire: Wire, __: str) -> None:
    """The grant is short, and the statement is not."""
    wire.send(query(SLEEP))
    await wire.rest()


FATES: Mapping[str, Callable[[Soak, Wire, str], Awaitable[None]]] = {
    "leaves": leaves,
    "vanishes": vanishes,
    "is reset": is_reset,
    "cancels": cancels,
    "is revoked": is_revoked,
    "expires": expires,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the proxy's process holds on to."""

    descriptors: int
    tasks: int
    resident_bytes: int


def campaign(plan: Plan, folder: Path) -> Result:
    """For so many seconds."""
    ca = Authority(folder)
    with Cluster(ca, log_statements=True) as cluster:
        roles.install(cluster)
        roles.create_database(cluster, DATABASE)
        return asyncio.run(_campaign(plan, cluster, ca, folder))


@asynccontextmanager
async def _stand(cluster: Cluster, ca: Authority, folder: Path) -> AsyncIterator[tuple[Proxy, StandIn]]:
    """A proxy that hears a control."""
    async with StandIn(ca.server(folder=folder)) as control:
        control.keeps = False
        (folder / "join").touch(mode=0o600)
        (folder / "join").write_text(JOIN_TOKEN)
        section = {"url": control.url, "ca_file": str(ca.file), "join_token": {"file": str(folder / "join")}}
        options: dict[str, Any] = {"control": section, "jwks_file": None, "warn_before_s": []}
        proxy = Proxy(cluster=cluster, ca=ca, folder=folder / "proxy", options=options)
        control.jwks = proxy.signer.jwks
        try:
            await asyncio.to_thread(proxy.start)
            await eventually(lambda: asyncio.to_thread(_has_lease, proxy), what="the proxy to hear control")
            yield proxy, control
        finally:
            await asyncio.to_thread(proxy.close)


def _has_lease(proxy: Proxy) -> bool:
    return proxy.metrics()["curfew_lease"] == 1


def _prepare(proxy: Proxy) -> None:
    """The tables, by way of the proxy: its first sessions."""
    environment = proxy.psql_env(PGDATABASE=f"orders/{DATABASE}")
    run([postgresql_bin() / "pgbench", "-i", "-q"], environment=environment)
    run([postgresql_bin() / "psql", "-c", "CREATE TABLE notes (n int)"], environment=environment)


async def _campaign(plan: Plan, cluster: Cluster, ca: Authority, folder: Path) -> Result:
    async with _stand(cluster, ca, folder) as (proxy, control):
        await asyncio.to_thread(_prepare, proxy)
        before = await _held(proxy, None)
        soak = Soak(proxy=proxy, control=control)
        await soak.run(plan.seconds * WARM)
        warm = await _held(proxy, before)
        await soak.run(plan.seconds * (1 - WARM))
        after = await _held(proxy, before)
        return await asyncio.to_thread(_result, soak, before, warm, after)


def _result(soak: Soak, before: Held, warm: Held, after: Held) -> Result:
    proxy, metrics = soak.proxy, soak.proxy.metrics()
    kept, ran = recorded(proxy), executed(proxy.cluster)
    stops, in_time = metrics["curfew_stop_seconds_count"], metrics['curfew_stop_seconds_bucket{le="1.0"}']
    done = ", ".join(f"{name} {count}" for name, count in sorted(soak.did.items()))
    print(  # noqa: T201 a command speaks to its caller
        f"soak: {metrics['curfew_sessions_total']:.0f} sessions, {ran.total()} statements executed,"
        f" {kept.total()} recorded, {stops:.0f} verified stops; {done};"
        f" held before: {before}, warm: {warm}, after: {after}"
    )
    leftover = [
        max(0, after.descriptors - before.descriptors),
        max(0, after.tasks - before.tasks),
        int(after.resident_bytes - warm.resident_bytes > GROWTH_BYTES),
        len(backends(proxy.cluster)),
        int(metrics["curfew_unverified_stops_total"]),
        len(unended(proxy)),
        broken(proxy),
    ]
    return Result(
        campaign="soak",
        rounds=soak.did.total(),
        lost=(ran - kept).total(),
        doubled=doubled(kept - ran),
        late=int(stops - in_time),
        leftover=sum(leftover),
    )


async def _held(proxy: Proxy, before: Held | None) -> Held:
    """What the proxy holds on to once nobody is there, and has had time to come down to what it was."""

    def held() -> Held:
        tasks = int(proxy.metrics()["curfew_tasks"])
        return Held(descriptors=proxy.descriptors(), tasks=tasks, resident_bytes=proxy.resident_bytes())

    def down() -> bool:
        now = held()
        return before is None or (now.descriptors <= before.descriptors and now.tasks <= before.tasks)

    await eventually(lambda: proxy.metrics()["curfew_sessions_live"] == 0, within=20)
    with suppress(TooLateError):
        await eventually(down)
    return held()
