"""What operators see of a running proxy: /metrics, /livez and /readyz."""

from tests.conftest import MakeProxy
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy
from tests.harness.waiting import eventually


def test_probes(proxy: Proxy) -> None:
    """A proxy that can serve is alive and ready; other paths do not exist."""
    assert proxy.ops("/livez") == (200, "ok\n")
    assert proxy.ops("/readyz") == (200, "ok\n")
    assert proxy.ops("/")[0] == 404


async def test_metrics(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """They count what happened."""
    proxy = make_proxy(postgres)
    before = proxy.metrics()
    assert before["curfew_sessions_total"] == before["curfew_sessions_live"] == 0
    assert before["curfew_lease"] == 1
    connection = await proxy.connect()
    await connection.fetch("SELECT 1")
    await eventually(lambda: proxy.metrics()["curfew_sessions_live"] == 1)
    assert proxy.metrics()["curfew_unauthenticated"] == 0
    await connection.close()
    await eventually(lambda: proxy.metrics()["curfew_sessions_live"] == 0)
    after = proxy.metrics()
    assert after["curfew_connections_total"] == after["curfew_sessions_total"] == 1
    assert after['curfew_ended_total{reason="closed"}'] == 1
    assert after["curfew_statements_total"] == 1
    assert after["curfew_client_bytes_total"] > 0
    assert after["curfew_upstream_bytes_total"] > 0
    assert after["curfew_journal_bytes"] == sum(len(line) + 1 for line in proxy.lines())
    assert after["curfew_unverified_stops_total"] == 0


async def test_stop_time_is_measured(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """How long each stop took from decision to proof."""
    proxy = make_proxy(postgres)
    connection = await proxy.connect(proxy.token(lasts_s=2))
    await eventually(connection.is_closed)
    await eventually(lambda: proxy.metrics()["curfew_stop_seconds_count"] == 1)
    assert proxy.metrics()["curfew_stop_seconds_sum"] < 1
    assert proxy.metrics()['curfew_ended_total{reason="expired"}'] == 1
