"""A session's first record: who, why, from where, over what."""

from proxy.contract.record import SessionStart, Tls, decode
from tests.conftest import MakeProxy, Watcher
from tests.harness import roles
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id


async def test_start_record(proxy: Proxy) -> None:
    """The client leg's encryption was missing here once, when the proxy had got a TLS transport of its own."""
    grant = new_grant_id()
    asked = {"application_name": "mine", "DateStyle": "German"}
    connection = await proxy.connect(proxy.token(id=grant), server_settings=asked)
    tls = connection._transport.get_extra_info("ssl_object")
    pid = connection.get_server_pid()
    await connection.close()
    start = decode((await proxy.session_of(grant))[0])
    assert isinstance(start, SessionStart)
    assert start.tls == Tls(version=tls.version(), cipher=tls.cipher()[0])
    assert (start.grant, start.person, start.target, start.profile) == (grant, "dba1", "orders", "app")
    assert (start.upstream_user, start.backend_pid) == (roles.APP.user, pid)
    assert (start.address, start.application_name, start.proxy) == ("127.0.0.1", "mine", "proxy-test")
    assert start.settings == {"client_encoding": "'utf-8'", "DateStyle": "German"}


async def test_the_person_for_all_to_see(make_proxy: MakeProxy, postgres: Cluster, watcher: Watcher) -> None:
    """`show_person`: whoever looks at pg_stat_activity sees who it is, behind what the client calls itself."""
    proxy, grant = make_proxy(postgres, target={"show_person": True}), new_grant_id()
    connection = await proxy.connect(proxy.token(id=grant), server_settings={"application_name": "mine"})
    pid = connection.get_server_pid()
    shown = await watcher.fetchval("SELECT application_name FROM pg_stat_activity WHERE pid = $1", pid)
    await connection.close()
    assert shown == f"mine [{grant} dba1]"
