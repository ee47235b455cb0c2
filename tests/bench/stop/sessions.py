"""Real sessions in all sorts of states, whose grants end in the same instant: from the decision to the backend's end.

Two clocks tell: the proxy's own records, and PostgreSQL's (`tests.bench.stop.watching`). The clients are in this
process, and have nothing to do until their backends are gone; what is measured is the proxy and PostgreSQL.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from proxy.contract.record import SessionEnd
from tests.bench.pressure.finding import Finding
from tests.bench.stop.amount import LEADS_S, Amount, missed, spread
from tests.bench.stop.watching import install, watching
from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.tokens import grant as make_grant
from tests.harness.waiting import TooLateError, eventually
from tests.harness.wire import Wire, message, query

DATABASE = "stopped"
ROWS = 10_000
AT_ONCE = 10
STATES = 6
UNREAD = 5
"""The state in which the client reads nothing. It gets its data when it reads again, and the reason if it is quick."""
WITHIN_S = 60.0
SPARE_CONNECTIONS = 40
ENDLESS = "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 10000000)) TO STDOUT"
_SEEN = """SELECT count(*) FROM pg_stat_activity WHERE pid = ANY($1)
    AND (state IN ('idle', 'idle in transaction') OR wait_event IN ('PgSleep', 'ClientRead', 'ClientWrite'))"""


class LateError(Exception):
    """The sessions were not there before their grants were over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What was seen of the end of all."""

    expires_at: float
    pids: list[int]
    gone: dict[int, float]
    told: int
    """How many clients got the reason; of those that read."""
    readers: int
    ends: list[SessionEnd]
    changed: int
    """Rows that anybody has changed."""


async def begin(wire: Wire, number: int) -> None:
    """Bring the session into one of six states, by its number."""
    match number % STATES:
        case 0:
            await wire.run("SELECT 1")
        case 1:
            await wire.run("BEGIN")
            await wire.run("INSERT INTO work VALUES (-1)")
        case 2:
            wire.send(query(f"UPDATE work SET n = -n WHERE n = {number + 1} AND pg_sleep(600) IS NOT NULL"))
        case 3:
            wire.send(query("SELECT pg_sleep(600)"))
        case 4:
            wire.send(query("COPY work FROM STDIN"))
            await wire.until("G")
            wire.send(message("d", b"-1\n") * 100)
        case _:
            wire.send(query(ENDLESS))


def measure(amount: Amount, say: Callable[[str], None]) -> list[Finding]:
    """End `amount.sessions` of them at once."""
    with tempfile.TemporaryDirectory(prefix="curfew-stop-") as place:
        folder = Path(place)
        ca = Authority(folder)
        connections = {"max_connections": str(amount.sessions + SPARE_CONNECTIONS)}
        with Cluster(ca, settings=connections) as cluster:
            roles.install(cluster)
            roles.create_database(cluster, DATABASE)
            install(cluster)
            work = f"CREATE TABLE work AS SELECT generate_series(1, {ROWS}) AS n; ALTER TABLE work OWNER TO"
            cluster.psql(f"{work} {roles.APP.user}", database=DATABASE)
            options = {"workers": amount.workers, "max_sessions": amount.sessions, "warn_before_s": []}
            with Proxy(cluster=cluster, ca=ca, folder=folder / "proxy", options=options, database=DATABASE) as proxy:
                ended = asyncio.run(_end(proxy, amount.sessions))
    stopped = [one for one in ended.ends if one.reason == "expired" and one.gone_at is not None]
    say(f"sessions  {len(ended.pids)} ended at once, {ended.told} of {ended.readers} clients that read were told why")
    outside = [ended.gone.get(pid, ended.expires_at + WITHIN_S) - ended.expires_at for pid in ended.pids]
    inside = [((one.gone_at or 0) - one.decided_at) / 1e9 for one in stopped] or [WITHIN_S]
    return [
        *spread(f"{len(ended.pids)} sessions, decision to backend gone", inside),
        *spread("    grant's end to backend gone, by PostgreSQL", outside),
        missed("    backends that lived on", len(ended.pids) - len(ended.gone)),
        missed("    sessions without a verified end on record", len(ended.pids) - len(stopped)),
        missed("    clients that were not told", ended.readers - ended.told),
        missed("    rows changed", ended.changed),
    ]


async def _end(proxy: Proxy, count: int) -> Ended:
    for lead_s in LEADS_S:
        async with AsyncExitStack() as stack:
            expires_at = time.time() + lead_s
            try:
                wires = await _open(proxy, stack, count, expires_at)
            except LateError:
                continue
            return await _watch(proxy, wires, expires_at)
    raise LateError(f"{count} sessions were not there in {LEADS_S[-1]} s")


async def _open(proxy: Proxy, stack: AsyncExitStack, count: int, expires_at: float) -> list[Wire]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def open_one(number: int) -> Wire:
        async with gate:
            token = proxy.signer.token(make_grant(id=new_grant_id(), profile="app"), exp=expires_at)
            wire = await stack.enter_async_context(await Wire.tls(proxy.port, proxy.ca.client_context()))
            await wire.log_in(token)
            await begin(wire, number)
            return wire

    opened = await asyncio.gather(*(open_one(number) for number in range(count)), return_exceptions=True)
    wires = [one for one in opened if isinstance(one, Wire)]
    failed = [one for one in opened if isinstance(one, BaseException)]
    if failed and time.time() < expires_at:
        raise failed[0]
    watcher = await proxy.cluster.connect()
    pids = [wire.pid for wire in wires]

    async def all_there() -> bool:
        return bool(await watcher.fetchval(_SEEN, pids) == count)

    try:
        await eventually(all_there, within=max(0.0, expires_at - time.time() - 1))
    except TooLateError as error:
        raise LateError from error
    finally:
        await watcher.close()
    return wires


async def _watch(proxy: Proxy, wires: list[Wire], expires_at: float) -> Ended:
    pids = [wire.pid for wire in wires]
    within_s = expires_at - time.time() + WITHIN_S
    async with watching(proxy.cluster, pids, within_s=within_s) as watched:
        readers = [wire for number, wire in enumerate(wires) if number % STATES != UNREAD]
        said = await asyncio.gather(*(wire.rest(within=within_s) for wire in readers))
        gone = await watched
    told = sum(bool(one) and one[-1].kind == "E" and one[-1].fields["C"] == "57P01" for one in said)
    # Those that came too late for an earlier end were ended too, before: only the last ones count.
    await eventually(lambda: len(_ends(proxy, expires_at)) >= len(wires), within=WITHIN_S)
    rows = await proxy.cluster.sql("SELECT count(*) AS n FROM work WHERE n < 0", database=DATABASE)
    changed: int = rows[0]["n"]
    ends = _ends(proxy, expires_at)
    return Ended(
        expires_at=expires_at, pids=pids, gone=gone, told=told, readers=len(readers), ends=ends, changed=changed
    )


def _ends(proxy: Proxy, since: float) -> list[SessionEnd]:
    return [one for one in proxy.ended() if one.decided_at >= since * 1e9]
