"""The backstop at a real PostgreSQL, and what a session without it shows: nothing of ours."""

from collections.abc import Iterator

import pytest

from tests.conftest import MakeProxy
from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.relay import Relay, edit
from tests.harness.serverlog import statements
from tests.harness.waiting import eventually

OURS = "name LIKE 'tcp_keepalives%' OR name = 'client_connection_check_interval'"
SHOWN = (
    "SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings"
    f" WHERE ({OURS}) AND source = 'client'"
)
ALL = "client_connection_check_interval=10000 tcp_keepalives_count=3 tcp_keepalives_idle=60 tcp_keepalives_interval=10"


@pytest.fixture(scope="module")
def witness(ca: Authority) -> Iterator[Cluster]:
    """A PostgreSQL that logs every statement, and lets people in without TLS."""
    hba = ["host all all 127.0.0.1/32 scram-sha-256"]
    with Cluster(ca, log_statements=True, hba=hba) as cluster:
        roles.install(cluster)
        yield cluster


async def test_asked_for(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """With the option a session has the settings, but for the client's own."""
    proxy = make_proxy(postgres, target={"backstop": True})
    async with proxy.wire() as wire:
        assert await wire.value(SHOWN) == ALL
    async with proxy.wire(options="-c client_connection_check_interval=0") as wire:
        assert await wire.value("SHOW client_connection_check_interval") == "0"


async def test_not_taken(make_proxy: MakeProxy, witness: Cluster) -> None:
    """A server that refuses one of them breaks no login: it is logged in to without, and not asked again."""
    spoil = edit(lambda data: data.replace(b"tcp_keepalives_count\x003", b"tcp_keepalives_count\x00x"))
    async with Relay(witness.port, client=[spoil]) as relay:
        target = {"backstop": True, "port": relay.port, "host": "127.0.0.1", "sslmode": "disable", "ca_file": None}
        proxy = make_proxy(witness, target=target)
        for _ in range(2):
            async with proxy.wire() as wire:
                assert await wire.value(SHOWN) is None
    assert proxy.log().count("the server does not take the backstop's settings") == 1


async def test_no_statement_of_ours(make_proxy: MakeProxy, witness: Cluster) -> None:
    """Without a pooler the server's own log has the person's statement on the session, and nothing else."""
    proxy = make_proxy(witness)
    async with proxy.wire(application_name="witness") as wire:
        assert await wire.value(SHOWN) is None
    assert await eventually(lambda: statements(witness, user=roles.APP.user)[-1:]) == [SHOWN]
    assert set(statements(witness, user=roles.APP.user)) == {SHOWN}
