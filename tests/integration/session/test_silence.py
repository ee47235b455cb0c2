"""A session that says nothing for a while: nobody ends it for that (PROTOCOL.md, row 82)."""

from tests.conftest import MakeProxy
from tests.harness.postgres import Cluster
from tests.harness.wire import Wire, query

LOGIN_S = 3
SILENT_S = 4


async def test_quiet_ones_are_left_alone(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """Longer than every wait that a login is given: a statement that runs without a byte, and a session that idles.

    The proxy has no limit for idle sessions; PostgreSQL has one, which looks at what the session does.
    """
    proxy = make_proxy(postgres, options={"auth_timeout_s": LOGIN_S}, target={"connect_timeout_s": LOGIN_S})
    context = proxy.ca.client_context()
    async with await Wire.tls(proxy.port, context) as busy, await Wire.tls(proxy.port, context) as idle:
        for wire in (busy, idle):
            await wire.log_in(proxy.token())
        busy.send(query(f"SELECT pg_sleep({SILENT_S})"))
        assert [one.kind for one in await busy.until("Z")] == ["T", "D", "C", "Z"]
        assert [await wire.value("SELECT 1") for wire in (busy, idle)] == ["1", "1"]
