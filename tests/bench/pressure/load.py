"""What is hard on a proxy, as processes of their own, so that they are hard on nothing else that measures.

As a command (`python -m tests.bench.pressure.load`) it is the pipeline: tiny queries, sent as fast as they are taken.
"""

import asyncio
import os
import ssl
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.bench.pressure.stand import LINE, Way
from tests.harness.binaries import postgresql_bin
from tests.harness.processes import Process
from tests.harness.waiting import eventually_sync
from tests.harness.wire import Wire, query

_REPEATED = 10_000
"""Times a bulk transfer is done again: nobody waits for the last one."""
_IN_MEGABYTES = 100
_OUT_ROWS = 1_000_000
_BLOB = 1_000
_START_S = 30.0
STARTED = "loading"


@contextmanager
def copy_out(way: Way) -> Iterator[Process]:
    """Psql takes a big result, again and again."""
    with _psql(way, f"COPY (SELECT '{LINE}' FROM generate_series(1, {_OUT_ROWS})) TO STDOUT;\n") as process:
        yield process


@contextmanager
def copy_in(way: Way) -> Iterator[Process]:
    """Psql gives a big file, which PostgreSQL reads and drops, again and again."""
    with tempfile.NamedTemporaryFile("w", prefix="curfew-load-") as data:
        data.write((LINE + "\n") * (_IN_MEGABYTES * 1_000))
        data.flush()
        with _psql(way, f"\\copy sink FROM '{data.name}' WHERE false\n") as process:
            yield process


@contextmanager
def pipeline(way: Way, queries: int) -> Iterator[Process]:
    """So many simple queries, sent as fast as the proxy takes them, and read as fast as it answers."""
    environment = {"PRESSURE_TOKEN": way.token, "PRESSURE_CA": str(way.proxy.ca.file) if way.tls else ""}
    command = [sys.executable, "-m", "tests.bench.pressure.load", str(way.proxy.port), str(queries)]
    with Process(command, environment=environment) as process:
        process.wait_for_output(STARTED)
        yield process


@contextmanager
def _psql(way: Way, statement: str) -> Iterator[Process]:
    with tempfile.NamedTemporaryFile("w", prefix="curfew-load-") as script:
        script.write("\\o /dev/null\n" + statement * _REPEATED)
        script.flush()
        secure: Mapping[str, str] = {} if way.tls else {"PGSSLMODE": "disable"}
        environment = way.proxy.psql_env(way.token, **secure)
        with Process([postgresql_bin() / "psql", "-X", "-q", "-f", script.name], environment=environment) as process:
            eventually_sync(
                lambda: _copied(way) or not process.running, within=_START_S, what="the first bytes of a COPY"
            )
            yield process


def _copied(way: Way) -> bool:
    """Whether a COPY is under way."""
    return way.proxy.cluster.psql("SELECT count(*) FROM pg_stat_progress_copy WHERE bytes_processed > 0") != "0"


async def _pipeline(port: int, queries: int) -> None:
    authority = os.environ["PRESSURE_CA"]
    context = ssl.create_default_context(cafile=authority) if authority else None
    async with await (Wire.tls(port, context) if context else Wire.plain(port)) as wire:
        await wire.log_in(os.environ["PRESSURE_TOKEN"])
        one = query("SELECT 1")
        answer = sum(5 + len(message.body) for message in await wire.run("SELECT 1"))
        print(STARTED, flush=True)  # noqa: T201 whoever started this waits for it

        async def send() -> None:
            for first in range(0, queries, _BLOB):
                wire.send(one * min(_BLOB, queries - first))
                await wire.drain()

        sending = asyncio.get_running_loop().create_task(send())
        await wire.skip(answer * queries)
        await sending


if __name__ == "__main__":
    asyncio.run(_pipeline(int(sys.argv[1]), int(sys.argv[2])))
