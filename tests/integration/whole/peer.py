"""A second proxy on a stand: the same control, the same targets, another name, key and journal."""

import asyncio
from pathlib import Path
from typing import Self

from proxy.contract.proof import public_text
from proxy.identity import load_or_create
from tests.harness.ports import free_port
from tests.harness.processes import Process
from tests.harness.waiting import eventually, eventually_sync
from tests.integration.client.person import PYTHON
from tests.integration.client.service import ENVIRONMENT
from tests.integration.whole.stand import Whole, secret

START_S = 30.0


class Peer:
    """`curfew-proxy serve` beside the stand's own. A context manager."""

    def __init__(self, whole: Whole, folder: Path, *, name: str = "other", workers: int = 1) -> None:
        self.name, self.port = name, free_port()
        self._folder, self._workers = folder, workers
        self._process: Process | None = None
        secret(folder / "join", whole.service.join_token())
        text = whole.settings_of(name, port=self.port, folder=folder)
        (folder / "proxy.toml").write_text(text.replace("[proxy]\n", f"[proxy]\nworkers = {workers}\n"))

    def __enter__(self) -> Self:
        self.launch()
        eventually_sync(self._follows, within=START_S)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.stop()

    @property
    def process(self) -> Process:
        """The proxy's process."""
        assert self._process is not None, "not started"
        return self._process

    @property
    def public_key(self) -> str:
        """What it signs its records with, from the proxy itself."""
        return public_text(load_or_create(self._folder / "proxy").public_key())

    def launch(self) -> None:
        """Start it, in a thread that stays: it ends with the one that started it."""
        command = [PYTHON, "-m", "proxy.cli", "--config", str(self._folder / "proxy.toml"), "serve"]
        self._process = Process(command, environment=ENVIRONMENT)

    def _follows(self) -> bool:
        return self.process.output.count("following control's directives") >= self._workers

    async def kill(self) -> None:
        """SIGKILL, to every process of it."""
        await asyncio.to_thread(self.process.kill)

    async def start(self) -> None:
        """Start it again, until it listens and follows control."""
        self.launch()
        await eventually(self._follows, within=START_S)
