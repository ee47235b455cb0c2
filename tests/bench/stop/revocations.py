"""Revocations by a real control, one after the other: from the approver's call to the backend's end.

Once on a quiet proxy, and once with pgbench going through the same proxy as fast as it can. The call is one HTTPS
request on a connection of its own; PostgreSQL itself tells when the backend is gone (`tests.bench.stop.watching`).
"""

import asyncio
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from proxy.contract.record import SessionEnd, decode
from tests.bench.pressure.finding import Finding
from tests.bench.stop.amount import Amount, missed, spread
from tests.bench.stop.sessions import ROWS, begin
from tests.bench.stop.watching import install, watching
from tests.harness import roles
from tests.harness.binaries import postgresql_bin
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.processes import Process, run
from tests.harness.waiting import eventually
from tests.integration.whole.stand import Pass, Whole

CLIENTS = 8
"""Of pgbench: both cores are busy then."""
WITHIN_S = 30.0
_TABLES = f"""
CREATE TABLE work AS SELECT generate_series(1, {ROWS}) AS n;
ALTER TABLE work OWNER TO {roles.APP.user};
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {roles.APP.user};
"""


def measure(amount: Amount, say: Callable[[str], None]) -> list[Finding]:
    """`amount.revocations` on a quiet proxy, and as many on a busy one."""
    with tempfile.TemporaryDirectory(prefix="curfew-stop-") as place:
        folder = Path(place)
        ca = Authority(folder)
        with Cluster(ca) as cluster:
            roles.install(cluster)
            install(cluster)
            run([postgresql_bin() / "pgbench", "-i", "-q", cluster.dsn()])
            cluster.psql(_TABLES)
            with Whole(cluster, ca, folder) as whole:
                return asyncio.run(_measure(whole, amount.revocations, say))


async def _measure(whole: Whole, count: int, say: Callable[[str], None]) -> list[Finding]:
    found = await _round(whole, count, "quiet")
    load = await whole.grant()
    bench: list[str | Path] = [postgresql_bin() / "pgbench", "-n", "-S", "-P", "5", "-T", "3600", "-c", str(CLIENTS)]
    with Process(bench, environment=whole.psql_environment(load)) as busy:
        await eventually(lambda: "progress" in busy.output, within=WITHIN_S, what="pgbench's first transactions")
        found += await _round(whole, count, "beside pgbench")
        assert busy.running, f"pgbench has ended:\n{busy.output}"
        progress = [line for line in busy.output.splitlines() if line.startswith("progress")]
        say(f"revocations  beside {CLIENTS} clients of pgbench: {progress[-1]}")
    return found


async def _round(whole: Whole, count: int, how: str) -> list[Finding]:
    """Sessions in all sorts of states first; then one revocation after the other."""
    called: dict[str, float] = {}
    gone: dict[str, float] = {}
    async with AsyncExitStack() as stack:
        passes: list[tuple[Pass, int]] = []
        for number in range(count):
            one = await whole.grant()
            wire = await stack.enter_async_context(await whole.log_in(one))
            await begin(wire, number)
            passes.append((one, wire.pid))
        for one, pid in passes:
            async with watching(whole.cluster, [pid], within_s=WITHIN_S) as watched:
                called[one.grant] = time.time()
                await whole.revoke(one)
                if seen := await watched:
                    gone[one.grant] = seen[pid]
        ends = await eventually(lambda: _ends(whole, called), within=WITHIN_S, what="the records of all")
    changed = (await whole.cluster.sql("SELECT count(*) AS n FROM work WHERE n < 0"))[0]["n"]
    inside = [((one.gone_at or 0) - one.decided_at) / 1e9 for one in ends if one.gone_at is not None]
    outside = [gone[grant] - at for grant, at in called.items() if grant in gone]
    return [
        *spread(f"{count} revocations, {how}: call to backend gone", outside or [WITHIN_S]),
        *spread("    decision to backend gone, by the record", inside or [WITHIN_S]),
        missed("    backends that lived on", count - len(gone)),
        missed("    sessions without a verified end on record", count - len(inside)),
        missed("    rows changed", changed),
    ]


def _ends(whole: Whole, called: dict[str, float]) -> list[SessionEnd]:
    """The ends of the sessions on these grants, once all are there; nothing before."""
    first = min(called.values())
    found = [record for record in map(decode, whole.lines) if isinstance(record, SessionEnd)]
    ends = [one for one in found if one.reason == "revoked" and one.decided_at >= first * 1e9]
    return ends if len(ends) >= len(called) else []
