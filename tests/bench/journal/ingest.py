"""What control takes in: the journal of a proxy at full load, shipped to a real control as fast as it takes it.

The journal is written first, by a proxy under pgbench, and that gives the rate to compare with. Then control gets it,
by the proxy's own client (TLS, signed, in its batches), one batch after the other.
"""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy import segments
from proxy.contract.directive import Joining
from proxy.contract.proof import public_text
from proxy.control_client import ControlClient
from proxy.identity import load_or_create
from proxy.segments import Position
from proxy.shipping import BATCH_BYTES, BATCH_LINES
from tests.bench.cases import CASES, Amount, Case, Measured
from tests.bench.results import Result
from tests.bench.stand import furnished, through_curfew
from tests.bench.ways import CURFEW
from tests.harness.certs import Authority
from tests.integration.client.service import Service

PRODUCTION = "production"
"""Beside it: what one proxy makes."""
JOURNAL = "journal"
"""Beside it: what the line itself is long."""
FULL_LOAD = "select-prepared-8"
PROXY = "proxy-test"
"""As the harness calls its proxies."""


def _unmeasured(*_: object) -> Measured:
    raise NotImplementedError("these are measured together")


INGEST = Case(name="ingest", metric="ingest", unit="records/s", measure=_unmeasured)
SIZE = Case(name="size", metric="size", unit="bytes/record", measure=_unmeasured)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A journal that a proxy has left."""

    directory: Path
    key: Ed25519PrivateKey
    seconds: float
    """How long it wrote."""


def measure(amount: Amount, rounds: int, say: Callable[[str], None]) -> list[Result]:
    """The rate, and the size, each beside what it is to be judged by."""
    ingest, size = Result(case=INGEST), Result(case=SIZE)
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="curfew-bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)

        cluster, _ = stack.enter_context(furnished(folder, amount))
        authority = cluster.authority
        for number in range(1, rounds + 1):
            home = folder / f"round{number}"
            with through_curfew(home / "proxy", cluster) as way:
                began = time.monotonic()
                CASES[FULL_LOAD].run(way, amount)
                took = time.monotonic() - began
            state = home / "proxy" / "state"
            written = Written(directory=state / "journal", key=load_or_create(state), seconds=took)
            lines, bytes_written = _count(written.directory)
            taken_s, books = _take_in(home, authority, written)
            ingest.add(PRODUCTION, lines / took, None)
            ingest.add(CURFEW, lines / taken_s, None)
            size.add(JOURNAL, bytes_written / lines, None)
            size.add(CURFEW, books / lines, None)
            rates = f"{lines / taken_s:.0f}/s, made at {lines / took:.0f}/s"
            say(f"ingest  round {number}/{rounds}  {lines} records: {rates}")
    return [ingest, size]


def missed(found: list[Result]) -> list[str]:
    """The aims that are not reached."""
    return [one.case.name for one in found if one.case is INGEST and one.ratios[PRODUCTION] <= 1]


def _count(directory: Path) -> tuple[int, int]:
    """The journal's lines, and their bytes."""
    bodies = [segments.path_of(directory, number).read_bytes() for number in segments.numbers(directory)]
    return sum(body.count(b"\n") for body in bodies), sum(map(len, bodies))


def _take_in(folder: Path, authority: Authority, written: Written) -> tuple[float, int]:
    """Give all of it to a new control: how long that takes, and by how much its books grow."""
    (folder / "control").mkdir()
    service = Service(folder / "control", authority)
    before = service.database.stat().st_size
    with service:
        taken_s = asyncio.run(_ship(service, written))
    return taken_s, service.database.stat().st_size - before


async def _ship(service: Service, written: Written) -> float:
    client = ControlClient(url=service.url, ca_file=str(service.ca_file), name=PROXY, key=written.key, silence_s=60.0)
    try:
        token = await asyncio.to_thread(service.join_token)
        await client.join(Joining(name=PROXY, join_token=token, public_key=public_text(written.key.public_key())))
        return await _all(client, written.directory)
    finally:
        await client.close()


async def _all(client: ControlClient, directory: Path) -> float:
    last = segments.numbers(directory)[-1]
    at, end = Position(1, 0), Position(last, segments.path_of(directory, last).stat().st_size)
    began = time.monotonic()
    while batch := segments.read_batch(directory, at, end, max_bytes=BATCH_BYTES, max_lines=BATCH_LINES):
        answer = await client.post_records(batch.body)
        assert answer.stored == batch.lines, answer
        at = batch.after
    return time.monotonic() - began
