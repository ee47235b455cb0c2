"""Every door leads to every worker and asks in its own way: TCP and unix sockets, by password and by OAUTHBEARER."""

import functools
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from proxy.contract.record import SessionStart
from tests.conftest import Watcher
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy
from tests.harness.waiting import eventually
from tests.harness.wire import Wire, cancel_request, query, startup
from tests.integration.workers.conftest import backends_of, emptied, log_in, reload, serials
from tests.integration.workers.house import DOORS, WHO, House, furnished


@pytest.fixture(scope="module")
def house(postgres: Cluster, ca: Authority, sockets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One that this module's tests share."""
    made = furnished(Proxy(cluster=postgres, ca=ca, folder=tmp_path_factory.mktemp("house")), sockets)
    with made.proxy:
        yield made


@pytest.mark.parametrize("door", DOORS)
async def test_sessions_and_cancels(house: House, watcher: Watcher, door: str) -> None:
    """Both workers let people in by each door, and a cancel request by it ends what runs in either worker.

    A cancel request comes to the worker with fewer connections; so what runs in the other one needs both.
    """
    before = [set(backends_of(house.proxy, worker)) for worker in (1, 2)]
    async with house.sessions(door, 3) as held:
        here = [set(backends_of(house.proxy, worker)) - had for worker, had in zip((1, 2), before, strict=True)]
        assert sorted(map(len, here)) == [1, 2]
        assert here[0] | here[1] == {wire.pid for wire in held}
        for wire in held:
            wire.send(query("SELECT pg_sleep(60)"))
            await eventually(functools.partial(sleeps, watcher, wire.pid))
            async with await house.connect(door) as other:
                other.send(cancel_request(wire.pid, wire.secret))
                assert await other.bytes_left() == b""
            assert [one.fields["C"] for one in await wire.until("Z") if one.kind == "E"] == ["57014"]
    starts = [
        one for one in house.proxy.records() if isinstance(one, SessionStart) and one.backend_pid in here[0] | here[1]
    ]
    assert [(one.uid is None, one.tls is None) for one in starts] == [("unix" not in door, "unix" in door)] * 3
    await emptied(house.proxy)


async def sleeps(watcher: Watcher, pid: int) -> bool:
    """Whether this backend does."""
    found = "SELECT state = 'active' AND wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $1"
    return bool(await watcher.fetchval(found, pid))


async def test_new_certificates(house: House) -> None:
    """Without a signal, every worker takes them up, by itself and once; sessions that run do not notice."""
    proxy, says = house.proxy, '"new certificates taken up"'
    async with await log_in(proxy) as wire:
        before, said = await serials(proxy), proxy.log().count(says)
        proxy.ca.server(folder=proxy.folder, stem="proxy")
        await eventually(lambda: proxy.log().count(says) == said + 2)
        after = await serials(proxy)
        assert (len(before), len(after), before & after) == (1, 1, set())
        assert await wire.value("SELECT 1") == "1"


async def test_where_clear_text_is_allowed(house: House) -> None:
    """SIGHUP changes what every worker believes of where connections come from, and the doors' own rules stay."""
    assert await asked_in_clear(house.proxy.port) == {"E"}
    house.proxy.options = {**house.proxy.options, "plaintext": "loopback"}
    house.proxy.write_config()
    await reload(house.proxy, '"configuration reloaded"', 2)
    assert await asked_in_clear(house.proxy.port) == {"R"}
    assert await asked_in_clear(house.oauth_port) == {"E"}


async def asked_in_clear(port: int) -> set[str]:
    """The answers to eight newcomers at once, who come to both workers without TLS."""
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(await Wire.plain(port)) for _ in range(8)]
        for wire in wires:
            wire.send(startup(*WHO))
        return {(await wire.read()).kind for wire in wires}
