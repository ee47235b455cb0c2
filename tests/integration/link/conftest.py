"""A control to talk to, and a link that talks to it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from proxy.contract.directive import AnyDirective
from proxy.control_link import ControlLink
from proxy.identity import load_or_create
from proxy.journal import Journal
from proxy.tasks import spawn
from tests.harness.certs import Authority
from tests.integration.link.stand_in import JOIN_TOKEN, StandIn

SEGMENT_BYTES = 20_000
LIMIT_BYTES = 1 << 28


@dataclass(slots=True, kw_only=True)
class Proxy:
    """What a proxy brings along: a state directory, a journal, and an ear for directives."""

    state_dir: Path
    url: str
    ca_file: str
    journal: Journal
    heard: list[AnyDirective] = field(default_factory=list)

    def link(
        self,
        *,
        name: str = "p1",
        token: Callable[[], str | None] | None = lambda: JOIN_TOKEN,
        lease_s: float = 10.0,
        on_directive: Callable[[AnyDirective], None] | None = None,
    ) -> ControlLink:
        """A link of this proxy."""
        return ControlLink(
            name=name,
            url=self.url,
            ca_file=self.ca_file,
            join_token=token,
            state_dir=self.state_dir,
            key=load_or_create(self.state_dir),
            journal=self.journal,
            on_directive=on_directive or self.heard.append,
            lease_s=lease_s,
        )

    @contextlib.asynccontextmanager
    async def running(self, link: ControlLink | None = None) -> AsyncIterator[ControlLink]:
        """A link that runs meanwhile."""
        link = link or self.link()
        task = spawn("link under test", link.run())
        try:
            yield link
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture
async def control(ca: Authority, tmp_path: Path) -> AsyncIterator[StandIn]:
    """A control that serves."""
    async with StandIn(ca.server(folder=tmp_path)) as stand_in:
        yield stand_in


@pytest.fixture
def proxy(ca: Authority, tmp_path: Path, control: StandIn) -> Iterator[Proxy]:
    """A proxy that has not joined."""
    state_dir = tmp_path / "state"
    journal = Journal.open(state_dir / "journal", segment_bytes=SEGMENT_BYTES, limit_bytes=LIMIT_BYTES)
    yield Proxy(state_dir=state_dir, url=control.url, ca_file=str(ca.file), journal=journal)
    journal.close()
