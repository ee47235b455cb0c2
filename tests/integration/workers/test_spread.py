"""Connections spread over the workers, limits hold over all of them, and operators see one proxy."""

import asyncio
from pathlib import Path

import pytest

from tests.harness.binaries import postgresql_bin
from tests.harness.processes import run
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.waiting import eventually
from tests.harness.wire import Refused
from tests.integration.workers.conftest import backends_of, emptied, log_in, reload, sessions


def counts(proxy: Proxy) -> list[int]:
    """How many sessions each worker has had."""
    return [len(backends_of(proxy, worker)) for worker in (1, 2)]


async def test_eight_pgbench_clients_are_dealt_evenly(pair: Proxy) -> None:
    """Round for round: nine connections, since pgbench makes one for itself first; four and five, give or take one."""
    arguments: list[str | Path] = [postgresql_bin() / "pgbench", "-n", "-c", "8", "-t", "5", "-f", "/dev/stdin"]
    for _ in range(3):
        before = counts(pair)
        await asyncio.to_thread(run, arguments, environment=pair.psql_env(), text="SELECT 1;\n")
        dealt = [after - had for after, had in zip(counts(pair), before, strict=True)]
        assert sum(dealt) == 9
        assert min(dealt) >= 3, dealt
        await emptied(pair)


async def test_who_has_fewer_gets_the_next(pair: Proxy) -> None:
    """Where all sessions of one worker have ended, it is the one that the next ones go to (one may go astray)."""
    async with sessions(pair, 6) as held:
        first = set(backends_of(pair, 1)[-3:])
        for wire in held:
            if wire.pid in first:
                wire.cut()
        left = [wire.pid for wire in held if wire.pid not in first]
        await eventually(lambda: pair.metrics()["curfew_sessions_live"] == len(left))
        before = counts(pair)[0]
        async with sessions(pair, 3):
            assert counts(pair)[0] - before >= 2
    await emptied(pair)


async def test_a_grant_s_limit_holds_over_all_workers(pair: Proxy) -> None:
    """Ten at once on a grant that allows three: three get in, whichever worker they come to; then one for one."""
    token = pair.token(id=new_grant_id(), max_sessions=3)
    tries = await asyncio.gather(*(log_in(pair, token) for _ in range(10)), return_exceptions=True)
    held = [one for one in tries if not isinstance(one, BaseException)]
    refused = [one for one in tries if isinstance(one, Refused)]
    assert (len(held), {one.fields["C"] for one in refused}, len(refused)) == (3, {"53300"}, 7)
    async with held[0], held[1], held[2]:
        held[0].cut()
        await eventually(lambda: pair.metrics()["curfew_sessions_live"] == 2)
        async with await log_in(pair, token):
            with pytest.raises(Refused):
                await log_in(pair, token)
    await emptied(pair)


async def test_the_proxy_s_limit_holds_over_all_workers(pair: Proxy) -> None:
    """`max_sessions` is for the proxy, not for each worker; also when it comes with a reload."""
    options = pair.options
    pair.options = {**options, "max_sessions": 5}
    await configure(pair)
    tries = await asyncio.gather(*(log_in(pair) for _ in range(9)), return_exceptions=True)
    held = [one for one in tries if not isinstance(one, BaseException)]
    refused = [one for one in tries if isinstance(one, Refused)]
    assert (len(held), {one.fields["C"] for one in refused}, len(refused)) == (5, {"53300"}, 4)
    for one in held:
        async with one:
            pass
    pair.options = options
    await configure(pair)
    await emptied(pair)


async def configure(proxy: Proxy) -> None:
    """Have every worker take up the options."""
    proxy.write_config()
    await reload(proxy, '"configuration reloaded"', 2)


async def test_operators_see_one_proxy(pair: Proxy) -> None:
    """Metrics are sums, probes speak for all."""
    await emptied(pair)
    before = pair.metrics()
    async with sessions(pair, 4) as held:
        assert pair.metrics()["curfew_sessions_live"] == 4
        for wire in held:
            assert await wire.value("SELECT 1") == "1"
    await emptied(pair)
    after = pair.metrics()
    assert after["curfew_sessions_total"] - before["curfew_sessions_total"] == 4
    assert after["curfew_workers"] == 2
    assert after["curfew_lease"] == 1
    assert after["curfew_worker_restarts_total"] == 0
    assert after["curfew_journal_bytes"] == sum(len(line) + 1 for line in pair.lines())
    assert pair.ops("/readyz") == (200, "ok\n")
    assert pair.ops("/livez") == (200, "ok\n")
