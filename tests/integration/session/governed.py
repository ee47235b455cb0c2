"""A proxy process that a stand-in for control tells what to do, and sessions on it."""

import asyncio
import time
from pathlib import Path
from typing import Any, Self

from proxy.contract.record import AnyRecord, SessionEnd, decode
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.waiting import eventually
from tests.harness.wire import Refused, Wire
from tests.integration.link.stand_in import JOIN_TOKEN, StandIn


class Governed:
    """The two of them. A context manager."""

    def __init__(self, postgres: Cluster, ca: Authority, folder: Path, **changed: Any) -> None:  # noqa: ANN401 any field of Proxy
        """`changed` are fields of the proxy; its `options` are added to those that lead it to control."""
        folder.mkdir(parents=True, exist_ok=True)
        self.control = StandIn(ca.server(folder=folder, stem="control"))
        token = folder / "join"
        token.touch(mode=0o600)
        token.write_text(JOIN_TOKEN)
        control = {"url": self.control.url, "ca_file": str(ca.file), "join_token": {"file": str(token)}}
        options = {"jwks_file": None, "control": control, **changed.pop("options", {})}
        self.proxy = Proxy(cluster=postgres, ca=ca, folder=folder / "proxy", options=options, **changed)
        self.control.jwks = self.proxy.signer.jwks

    async def __aenter__(self) -> Self:
        await self.control.start()
        await self.start_proxy()
        await eventually(lambda: self.proxy.ops("/readyz")[0] == 200, what="a lease")
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.proxy.close)
        await self.control.stop()

    async def start_proxy(self) -> None:
        """Start it, or start it again."""
        await asyncio.to_thread(self.proxy.start)

    async def log_in(self, grant: str | None = None, **facts: Any) -> Wire:  # noqa: ANN401 any field of Grant
        """A session. `facts` change its grant."""
        wire = await Wire.tls(self.proxy.port, self.proxy.ca.client_context())
        user = facts.get("person", "dba1")
        token = self.proxy.token(id=grant or new_grant_id(), **facts)
        try:
            await wire.log_in(token, ("user", user), ("database", facts.get("target", "orders")))
        except BaseException:
            wire.cut()
            raise
        return wire

    async def refusal(self, **facts: Any) -> dict[str, str]:  # noqa: ANN401 as log_in
        """What somebody is told who is not let in."""
        try:
            wire = await self.log_in(**facts)
        except Refused as refused:
            return refused.fields
        wire.cut()
        return {}

    async def records(self, grant: str) -> list[AnyRecord]:
        """The records of the session on this grant, once it has ended."""
        return [decode(line) for line in await self.proxy.session_of(grant)]

    async def last(self, grant: str) -> SessionEnd:
        """Its last record."""
        last = (await self.records(grant))[-1]
        assert isinstance(last, SessionEnd)
        return last


def now_ns() -> int:
    """As directives have it."""
    return time.time_ns()
