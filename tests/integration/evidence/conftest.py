"""One stand for these tests: control, a proxy that has joined it, PostgreSQL; and the auditor."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxy.contract.record import AnyRecord, AuthRefused, SessionStart, decode
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.waiting import eventually
from tests.harness.wire import TERMINATE, Refused, Wire
from tests.integration.client.person import Person
from tests.integration.whole.stand import Pass, Whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Sessions, and what becomes of them."""

    whole: Whole
    ca: Authority
    folder: Path

    async def log_in(self, one: Pass, **parameters: str) -> Wire:
        """A session on this pass, with further startup parameters."""
        wire = await Wire.tls(self.whole.service.proxy_port, self.ca.client_context())
        named = {"user": "dba1", "database": one.target, **parameters}
        await wire.log_in(one.token, *named.items())
        return wire

    async def leave(self, wire: Wire, one: Pass) -> dict[str, Any]:
        """End the session; what control says of it then."""
        wire.send(TERMINATE)
        await wire.rest()
        return await self.whole.ended(one)

    def records(self, one: Pass) -> list[AnyRecord]:
        """What the proxy has on record of the one session on this pass."""
        records = [decode(line) for line in self.whole.lines]
        mine = next(first.session for first in records if isinstance(first, SessionStart) and first.grant == one.grant)
        return [record for record in records if record.session == mine]

    async def auditor(self, *arguments: str) -> str:
        """What the command prints for the auditor, on a pipe."""
        return await asyncio.to_thread(self._auditor.ok, *arguments)

    async def auditor_on_terminal(self, *arguments: str) -> str:
        """The same on a terminal, without colours."""
        code, screen = await asyncio.to_thread(self._auditor.on_terminal, *arguments, NO_COLOR="1")
        assert code == 0
        return screen

    async def timeline(self, session: str) -> list[dict[str, Any]]:
        """What the API says that happened."""
        items: list[dict[str, Any]] = (await self.whole.api("eve", "GET", f"/sessions/{session}/timeline"))["items"]
        return items

    async def raw(self, path: str) -> tuple[Mapping[str, str], bytes]:
        """What the API answers the auditor, to the byte."""
        service = self.whole.service
        headers = {"Authorization": f"Bearer {service.keys['eve']}"}
        async with httpx2.AsyncClient(
            base_url=service.url, verify=service.trust, trust_env=False, headers=headers
        ) as http:
            answer = await http.get(f"/v1{path}")
        return answer.headers, answer.content

    async def refused(self, one: Pass, *named: tuple[str, str]) -> dict[str, str]:
        """The error that a login with these parameters ends with."""
        wire = await Wire.tls(self.whole.service.proxy_port, self.ca.client_context())
        async with wire:
            with pytest.raises(Refused) as raised:
                await wire.log_in(one.token, *named)
        return raised.value.fields

    async def refusal(self, one: Pass) -> AuthRefused:
        """The record of it."""

        def found() -> AuthRefused | None:
            refused = [record for record in map(decode, self.whole.lines) if isinstance(record, AuthRefused)]
            return next((record for record in refused if record.grant == one.grant), None)

        refused = await eventually(found)
        assert refused is not None
        return refused

    @property
    def _auditor(self) -> Person:
        return Person(home=self.folder, variables=self.whole.service.variables("eve"))

    def stored(self) -> bytes:
        """Every byte that the proxy and control have written: journals, databases, keys, logs."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return b"".join(path.read_bytes() for path in files) + self.whole.proxy.output.encode()


@pytest.fixture(scope="package")
def audit(postgres: Cluster, ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audit]:
    """What these tests share."""
    folder = tmp_path_factory.mktemp("audit")
    with Whole(postgres, ca, folder) as whole:
        yield Audit(whole=whole, ca=ca, folder=folder)
