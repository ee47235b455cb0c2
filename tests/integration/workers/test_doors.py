"""Every door leads to every worker and asks in its own way: TCP and unix sockets, by password and by OAUTHBEARER."""

import asyncio
import functools
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.contract.record import SessionStart
from tests.conftest import Watcher
from tests.harness.certs import Authority
from tests.harness.ports import free_port
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy
from tests.harness.waiting import eventually
from tests.harness.wire import Wire, cancel_request, query, startup
from tests.integration.edge.conftest import on_unix
from tests.integration.edge.test_oauthbearer import bearer
from tests.integration.workers.conftest import backends_of, emptied, kill_worker, log_in, reload, serials, worker_pids

WHO = (("user", "dba1"), ("database", "orders"))
DOORS = ("password", "password, unix", "oauth", "oauth, unix")


@dataclass(frozen=True, slots=True)
class House:
    """A proxy of two workers with four doors."""

    proxy: Proxy
    sockets: Path
    oauth_port: int

    async def connect(self, door: str) -> Wire:
        """Through the door, nothing said yet (but TLS)."""
        port = self.oauth_port if door.startswith("oauth") else self.proxy.port
        if door.endswith("unix"):
            return await Wire.unix(f"{self.sockets}/.s.PGSQL.{port}")
        return await Wire.tls(port, self.proxy.ca.client_context())

    async def log_in(self, door: str) -> Wire:
        """A session, with the token given as this door asks for it."""
        wire = await self.connect(door)
        if not door.startswith("oauth"):
            await wire.log_in(self.proxy.token())
            return wire
        wire.send(startup(*WHO))
        assert (await wire.read()).body[4:] == b"OAUTHBEARER\0\0"
        wire.send(bearer(self.proxy.token()))
        for said in await wire.until("Z"):
            if said.kind == "K":
                wire.pid, wire.secret = int.from_bytes(said.body[:4]), said.body[4:]
        return wire

    @asynccontextmanager
    async def sessions(self, door: str, count: int) -> AsyncIterator[list[Wire]]:
        """So many, one after the other."""
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(await self.log_in(door)) for _ in range(count)]


def furnished(proxy: Proxy, sockets: Path) -> House:
    """The same with two workers and four doors."""
    port = free_port()
    oauth = {"listen": [f"127.0.0.1:{port}", f"{sockets}:{port}"]}
    proxy.options = {"workers": 2, "tls_renew_s": 0.2, "oauth": oauth, **proxy.options}
    return House(on_unix(proxy, sockets), sockets, port)


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


async def test_unix_sockets_from_start_to_end(postgres: Cluster, ca: Authority, sockets: Path, tmp_path: Path) -> None:
    """They outlive a worker, a killed supervisor's are no obstacle, and a stopped one's are gone at once."""
    made = furnished(Proxy(cluster=postgres, ca=ca, folder=tmp_path / "own"), sockets)
    made.proxy.options = {**made.proxy.options, "unix_socket": {"mode": "0600"}}
    paths = [Path(f"{sockets}/.s.PGSQL.{port}") for port in (made.proxy.port, made.oauth_port)]
    with made.proxy as proxy:
        assert [path.stat().st_mode & 0o777 for path in paths] == [0o600] * 2
        await kill_worker(proxy, 1)
        await eventually(lambda: proxy.ops("/readyz")[0] == 200)
        async with made.sessions("oauth, unix", 2) as held:
            assert len(backends_of(proxy, 1)) == 1
            pids = worker_pids(proxy)
            proxy.signal(signal.SIGKILL)
            assert {(await wire.rest())[-1].fields["C"] for wire in held} == {"57P01"}
        assert proxy.process is not None
        await asyncio.to_thread(proxy.process.wait)
        await eventually(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in pids))
        assert all(path.is_socket() for path in paths)
        proxy.start()
        async with made.sessions("password, unix", 1):
            proxy.signal(signal.SIGTERM)
            await eventually(lambda: not any(path.exists() for path in paths))
