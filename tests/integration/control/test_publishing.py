"""Publishing heads: to folders and URLs at once, where a target fails and comes back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from control.config import LogSettings
from control.operations import publishing
from control.operations.publishing import label
from control.services import Services
from control.store.migrate import migrate
from proxy.contract.checkpoint import verify
from tests.harness.waiting import eventually
from tests.unit.control.api.test_log import ORIGIN, key_of
from tests.unit.control.desk import Desk


class Witness:
    """A plain HTTP server that keeps what is posted to it, and answers `status`."""

    def __init__(self) -> None:
        self.status = 200
        self.posted: list[str] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        """Its URL."""
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/hook?token=s3cret"

    async def close(self) -> None:
        """Hang up."""
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(int(line[15:]) for line in head.lower().splitlines() if line.startswith("content-length:"))
        body = (await reader.readexactly(length)).decode()
        assert head.startswith("POST /hook?token=s3cret ")
        if self.status == 200:
            self.posted.append(body)
        writer.write(b"HTTP/1.1 %d Well\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % self.status)
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.close()


@pytest.fixture
async def witness() -> AsyncIterator[Witness]:
    """One."""
    witness = Witness()
    yield witness
    await witness.close()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """A control service."""
    migrate(tmp_path / "template")
    (tmp_path / "state").mkdir()
    desk = Desk(tmp_path / "state", tmp_path / "template")
    await desk.start()
    yield desk
    await desk.close()


def publishing_to(desk: Desk, *targets: str) -> Services:
    """Its services, with these targets."""
    log = LogSettings(publish=list(targets), publish_s=0.02)
    return replace(desk.services, settings=msgspec.structs.replace(desk.services.settings, log=log))


async def test_targets_fail_and_come_back_alone(desk: Desk, witness: Witness, tmp_path: Path) -> None:
    """A witness that answers 500 gets the newest head once it is well; the folder never waits for it."""
    folder = tmp_path / "worm"
    folder.mkdir()
    url = await witness.start()
    witness.status = 500
    services = publishing_to(desk, str(folder), url, str(tmp_path / "unmounted"))
    edge = await desk.edge()
    tasks = publishing.start(services)
    await eventually(lambda: len(list(folder.iterdir())) == 1)
    failures = services.metrics.log_publish_failures
    await eventually(lambda: failures.labels(label(url))._value.get() > 1)
    await edge.ship(*edge.session("ses_1"))
    await eventually(lambda: len(list(folder.iterdir())) == 2)
    assert witness.posted == []
    witness.status = 200
    await eventually(lambda: witness.posted)
    files = [file.read_text() for file in sorted(folder.iterdir())]
    key = await key_of(desk)
    assert [verify(note, key, origin=ORIGIN).size for note in files] == [0, 4]
    assert witness.posted == files[1:]
    assert failures.labels(str(tmp_path / "unmounted"))._value.get() > 0
    assert services.metrics.log_published.labels(str(folder))._value.get() == 4
    desk.services.stop()
    await asyncio.gather(*tasks)
