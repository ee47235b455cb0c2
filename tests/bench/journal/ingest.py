"""What control takes in: the journal of a proxy at full load, shipped to a real control as fast as it takes it.

The journal is written first, by a proxy under pgbench, and that gives the rate to compare with. Then a control gets it
by the proxy's own client (TLS, signed, in its batches), one batch after the other: `ingest`. And another one gets it as
a proxy brings it, by the proxy's own shipper with its journal and its pauses, which are the sessions' time: `shipping`.
CPU time is the proxy's that wrote, and control's.
"""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy import segments
from proxy.contract.directive import Acknowledged, Joining
from proxy.contract.proof import public_text
from proxy.control_client import ControlClient
from proxy.identity import load_or_create
from proxy.journal import Journal
from proxy.segments import Position
from proxy.shipping import BATCH_BYTES, BATCH_LINES, Shipper
from tests.bench.cases import CASES, Amount
from tests.bench.results import Quantity, Result
from tests.bench.stand import furnished, through_curfew
from tests.bench.ways import CURFEW, cpu_seconds
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.integration.client.service import Service

PRODUCTION = "production"
"""Beside it: what one proxy makes."""
JOURNAL = "journal"
"""Beside it: what the line itself is long."""
FULL_LOAD = "select-prepared-8"
PROXY = "proxy-test"
"""As the harness calls its proxies."""


Post: TypeAlias = Callable[[bytes], Awaitable[Acknowledged]]
Bring: TypeAlias = Callable[[Path, Post], Awaitable[None]]
"""Has all that lies in a journal's directory posted."""

INGEST = Quantity(name="ingest", metric="ingest", unit="records/s")
SHIPPING = Quantity(name="shipping", metric="ingest", unit="records/s")
SIZE = Quantity(name="size", metric="size", unit="bytes/record")


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A journal that a proxy has left."""

    directory: Path
    key: Ed25519PrivateKey
    lines: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What something took: on the clock, and of a process's CPU time, where that is known."""

    seconds: float
    cpu_seconds: float | None


class _Watch:
    """Tells what has gone by since it was made."""

    def __init__(self, pid: int | None) -> None:
        assert pid is not None
        self._pid = pid
        self._cpu, self._began = cpu_seconds(pid), time.monotonic()

    def spent(self) -> Spent:
        seconds, cpu = time.monotonic() - self._began, cpu_seconds(self._pid)
        return Spent(seconds=seconds, cpu_seconds=None if cpu is None or self._cpu is None else cpu - self._cpu)


def measure(amount: Amount, rounds: int, say: Callable[[str], None]) -> list[Result]:
    """Both rates, and the size, each beside what it is to be judged by."""
    rates, size = [Result(case=INGEST), Result(case=SHIPPING)], Result(case=SIZE)
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="curfew-bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)

        cluster, _ = stack.enter_context(furnished(folder, amount))
        for number in range(1, rounds + 1):
            home = folder / f"round{number}"
            made, written = _make(home / "proxy", cluster, amount)
            # The shipper comes second: what control has, its journal lets go of.
            for rate, bring in zip(rates, (_one_by_one, _as_a_proxy), strict=True):
                taken, books = _take_in(home / rate.case.name, cluster.authority, written, bring)
                rate.add(PRODUCTION, written.lines / made.seconds, _each(made.cpu_seconds, written))
                rate.add(CURFEW, written.lines / taken.seconds, _each(taken.cpu_seconds, written))
                size.add(JOURNAL, written.size / written.lines, None)
                size.add(CURFEW, books / written.lines, None)
                figures = f"{rate.figures[CURFEW][-1]:.0f}/s, made at {rate.figures[PRODUCTION][-1]:.0f}/s"
                say(f"{rate.case.name:<8}  round {number}/{rounds}  {written.lines} records: {figures}")
    return [*rates, size]


def missed(found: list[Result]) -> list[str]:
    """The aims that are not reached."""
    return [one.case.name for one in found if one.case in (INGEST, SHIPPING) and one.ratios[PRODUCTION] <= 1]


def _each(seconds: float | None, written: Written) -> float | None:
    return None if seconds is None else seconds / written.lines


def _make(folder: Path, cluster: Cluster, amount: Amount) -> tuple[Spent, Written]:
    """Have a proxy at full load write a journal."""
    with through_curfew(folder, cluster) as way:
        watch = _Watch(way.pid)
        CASES[FULL_LOAD].run(way, amount)
        spent = watch.spent()
    state = folder / "state"
    directory = state / "journal"
    bodies = [segments.path_of(directory, number).read_bytes() for number in segments.numbers(directory)]
    lines, size = sum(body.count(b"\n") for body in bodies), sum(map(len, bodies))
    return spent, Written(directory=directory, key=load_or_create(state), lines=lines, size=size)


def _take_in(folder: Path, authority: Authority, written: Written, bring: Bring) -> tuple[Spent, int]:
    """Give all of it to a new control: what that takes, and by how much its books grow."""
    folder.mkdir()
    service = Service(folder, authority)
    before = service.database.stat().st_size
    with service:
        taken = asyncio.run(_ship(service, written, bring))
    return taken, service.database.stat().st_size - before


async def _ship(service: Service, written: Written, bring: Bring) -> Spent:
    client = ControlClient(url=service.url, ca_file=str(service.ca_file), name=PROXY, key=written.key, silence_s=60.0)
    try:
        token = await asyncio.to_thread(service.join_token)
        await client.join(Joining(name=PROXY, join_token=token, public_key=public_text(written.key.public_key())))
        receipts = _Receipts(client, service.pid)
        await bring(written.directory, receipts.post)
        assert receipts.stored == written.lines, f"{receipts.stored} of {written.lines}"
        return receipts.spent
    finally:
        await client.close()


class _Receipts:
    """Posts batches, and knows what they took until the last answer so far."""

    def __init__(self, client: ControlClient, pid: int) -> None:
        self._client = client
        self._watch = _Watch(pid)
        self.spent = self._watch.spent()
        self.stored = 0

    async def post(self, body: bytes) -> Acknowledged:
        answer = await self._client.post_records(body)
        self.spent = self._watch.spent()
        self.stored += answer.stored
        return answer


async def _one_by_one(directory: Path, post: Post) -> None:
    last = segments.numbers(directory)[-1]
    at, end = Position(1, 0), Position(last, segments.path_of(directory, last).stat().st_size)
    while batch := segments.read_batch(directory, at, end, max_bytes=BATCH_BYTES, max_lines=BATCH_LINES):
        await post(batch.body)
        at = batch.after


async def _as_a_proxy(directory: Path, post: Post) -> None:
    size = sum(segments.path_of(directory, number).stat().st_size for number in segments.numbers(directory))
    journal = await asyncio.to_thread(Journal.open, directory, segment_bytes=2 * size, limit_bytes=16 * size)
    try:
        await Shipper(journal, post).finish()
    finally:
        journal.close()
