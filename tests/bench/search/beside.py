"""What the index costs ingest: the same batches of a proxy's records taken in without it, and while it follows."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from control.evidence.chain import parse
from control.evidence.ingest import ingest
from control.operations import indexing
from control.store import proxies
from control.store.migrate import migrate
from control.tasks import spawn
from control.times import SECOND
from proxy.contract.proof import public_text
from proxy.contract.record import Chain, SessionStart, StatementEnd, StatementStart
from tests.bench.pressure.finding import Finding
from tests.bench.search.asking import BOOKS, service

Say = Callable[[str], None]
IN_A_BATCH = 2_000
"""Statements: some 1.3 MB, as a busy proxy sends them."""
ALTERNATELY = 2


async def measure(folder: Path, *, batches: int, say: Say) -> list[Finding]:
    """Records a second into a store of its own, by turns with and without the index following."""
    migrate(folder / BOOKS)
    key = Ed25519PrivateKey.generate()
    rates: dict[bool, list[float]] = {False: [], True: []}
    behind = 0
    async with service(folder) as services:
        async with services.store.write() as tx:
            await proxies.add(tx, "edge", public_text(key.public_key()), 0)
            proxy = await proxies.find(tx, "edge")
        assert proxy is not None
        for turn in range(2 * ALTERNATELY):
            following = turn % 2 == 1
            bodies = _bodies(f"turn-{turn}", batches // (2 * ALTERNATELY) or 1)
            turns_own = replace(services, stopping=asyncio.Event())
            task = spawn("index", indexing.follow(turns_own)) if following else None
            began = time.monotonic()
            for body in bodies:
                await ingest(services.store, proxy=proxy, parsed=parse(body), now=time.time_ns())
            rates[following].append(2 * IN_A_BATCH * len(bodies) / (time.monotonic() - began))
            if task is not None:
                behind = await asyncio.to_thread(indexing.lag, folder / BOOKS)
                turns_own.stop()
                await task
    alone, together = (max(rates[one]) for one in (False, True))
    say(f"ingest: {alone:.0f} records a second alone, {together:.0f} beside the index; {behind} behind at the end")
    return [
        Finding(what="records taken in, without the index", measured=alone, unit="/s"),
        Finding(what="records taken in, while it follows", measured=together, unit="/s"),
    ]


def _bodies(name: str, batches: int) -> Sequence[bytes]:
    """A proxy's batches: one session of pgbench's statements."""
    chain = Chain(name)
    bodies = []
    for batch in range(batches):
        lines = [] if batch else [chain.seal(_start())]
        for number in range(batch * IN_A_BATCH + 1, (batch + 1) * IN_A_BATCH + 1):
            sql = f"UPDATE pgbench_accounts SET abalance = abalance + {number} WHERE aid = {number * 7};"
            began = StatementStart(statement=number, kind="query", sql=sql, state="I", transaction=number)
            ended = StatementEnd(statement=number, tags=["UPDATE 1"], rows=1, duration=300_000, state="I")
            lines += [chain.seal(began), chain.seal(ended)]
        bodies.append(b"".join(line + b"\n" for line in lines))
    return bodies


def _start() -> SessionStart:
    return SessionStart(
        grant="grt_1",
        person="ada",
        expires_at=2_000_000_000 * SECOND,
        target="orders",
        database="shop",
        profile="dba",
        upstream_user="owner",
        backend_pid=1,
        backend_start="2026-11-22T00:00:00.000000+00:00",
        proxy="edge",
    )
