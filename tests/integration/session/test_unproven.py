"""An end that nobody can prove: the client is let go, the record claims nothing, and the keeper goes on."""

import os
import signal

from proxy.contract.record import SessionEnd, StatementStart, decode
from tests.conftest import MakeProxy, Watcher
from tests.harness.postgres import Cluster
from tests.harness.proxy import new_grant_id
from tests.harness.waiting import eventually
from tests.harness.wire import query

RUNNING = "SELECT pg_sleep(60)"


async def test_a_backend_that_does_not_act_on_the_signal(
    postgres: Cluster, make_proxy: MakeProxy, watcher: Watcher
) -> None:
    """It is stopped, and may go on as soon as it is not: what it was running is "unknown", though it was no commit."""
    proxy = make_proxy(postgres, options={"stop_timeout_s": 0.5, "warn_before_s": []})
    grant = new_grant_id()
    async with proxy.wire(proxy.token(id=grant, lasts_s=3)) as wire:
        await wire.run("BEGIN")
        wire.send(query(RUNNING))
        await eventually(lambda: any(isinstance(one, StatementStart) and one.sql == RUNNING for one in proxy.records()))
        os.kill(wire.pid, signal.SIGSTOP)
        try:
            said = await wire.rest(within=30)
            last = decode((await proxy.session_of(grant))[-1])
        finally:
            os.kill(wire.pid, signal.SIGCONT)
        assert said[-1].fields["D"] == "Work that was open: unknown."
        assert isinstance(last, SessionEnd)
        assert (last.reason, last.outcome, last.gone_at) == ("expired", "unknown", None)
        assert proxy.metrics()["curfew_unverified_stops_total"] == 1

        async def is_gone() -> bool:
            return not await watcher.fetch("SELECT FROM pg_stat_activity WHERE pid = $1", wire.pid)

        await eventually(is_gone, within=30)
