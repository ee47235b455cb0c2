"""A session's first record: who, why, from where, over what."""

from proxy.contract.record import SessionStart, Tls, decode
from tests.harness import roles
from tests.harness.proxy import Proxy, new_grant_id


async def test_start_record(proxy: Proxy) -> None:
    """The client leg's encryption was missing here once, when the proxy had got a TLS transport of its own."""
    grant = new_grant_id()
    connection = await proxy.connect(proxy.token(id=grant), server_settings={"application_name": "mine"})
    tls = connection._transport.get_extra_info("ssl_object")
    pid = connection.get_server_pid()
    await connection.close()
    start = decode((await proxy.session_of(grant))[0])
    assert isinstance(start, SessionStart)
    assert start.tls == Tls(version=tls.version(), cipher=tls.cipher()[0])
    assert (start.grant, start.person, start.target, start.profile) == (grant, "dba1", "orders", "app")
    assert (start.upstream_user, start.backend_pid) == (roles.APP.user, pid)
    assert (start.address, start.application_name, start.proxy) == ("127.0.0.1", "mine", "proxy-test")
