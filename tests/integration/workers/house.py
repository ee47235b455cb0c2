"""A proxy of two workers with four doors: TCP and unix sockets, each of them for passwords and for OAUTHBEARER."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.harness.ports import free_port
from tests.harness.proxy import Proxy
from tests.harness.wire import Wire, startup
from tests.integration.edge.conftest import on_unix
from tests.integration.edge.test_oauthbearer import bearer

WHO = (("user", "dba1"), ("database", "orders"))
DOORS = ("password", "password, unix", "oauth", "oauth, unix")


@dataclass(frozen=True, slots=True)
class House:
    """The proxy, and where its doors are."""

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

    @property
    def files(self) -> list[Path]:
        """The unix sockets."""
        return [Path(f"{self.sockets}/.s.PGSQL.{port}") for port in (self.proxy.port, self.oauth_port)]

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
