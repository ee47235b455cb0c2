"""A control service in a process of its own, set up by its own commands, and callers that speak TLS to it."""

import asyncio
import json
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import httpx2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy.contract import proof
from proxy.contract.directive import AnyDirective, decode
from tests.harness.certs import Authority
from tests.harness.processes import Process, run

REPOSITORY = Path(__file__).resolve().parents[3]
CONFIGURATION = """
[control]
listen = "127.0.0.1:0"
tls_certificate_file = "{certificate}"
tls_key_file = "{key}"
state_dir = "{folder}/state"
issuer = "https://localhost"
connect_host = "proxy.example"

[targets.orders]
host = "db"
database = "shop"
keeper.user = "keeper"
access.readonly = {{ user = "ro" }}
"""


class Service:
    """`curfew-control`. `init` sets it up; `start` and `stop` as often as a test likes (the port changes)."""

    def __init__(self, folder: Path, ca: Authority) -> None:
        files = ca.server(stem="control", folder=folder)
        self.config = folder / "config.toml"
        self.config.write_text(
            CONFIGURATION.format(certificate=files.certificate, key=files.key, folder=folder.as_posix())
        )
        self.state = folder / "state"
        self.ca = ca
        self.keys: dict[str, str] = {}
        self.process: Process | None = None
        self.url = ""

    def command(self, *arguments: str, check: bool = True) -> tuple[int, str, str]:
        """Run a command to its end: exit code, stdout, stderr."""
        done = run([*PYTHON, *arguments, "--config", self.config], environment=ENVIRONMENT, check=check)
        return done.returncode, done.stdout.strip(), done.stderr

    def init_as(self, other: "Service") -> Self:
        """The same database, keys and people as another one's, which is not running: quicker than `init`."""
        shutil.copytree(other.state, self.state)
        self.keys = dict(other.keys)
        return self

    def init(self) -> Self:
        """The database, an admin, and two people."""
        self.keys["root"] = self.command("init", "--admin", "root")[1]
        for name, role in (("ada", "requester"), ("carol", "approver")):
            self.keys[name] = self.command("person", "add", name, "--role", role)[1]
        return self

    def start(self, **environment: str) -> Self:
        """Serve."""
        self.process = Process([*PYTHON, "serve", "--config", self.config], environment=ENVIRONMENT | environment)
        said = self.process.wait_for_output("listening on ")
        port = said.partition("listening on https://127.0.0.1:")[2].split()[0]
        self.url = f"https://localhost:{port}"
        return self

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """End it by a signal: exit code and how long it took."""
        assert self.process is not None
        began = time.monotonic()
        self.process.signal(number)
        return self.process.wait(), time.monotonic() - began

    def close(self) -> None:
        """End it, whatever it does."""
        if self.process is not None:
            self.process.kill()

    @asynccontextmanager
    async def client(self, who: str | None = None) -> AsyncIterator[httpx2.AsyncClient]:
        """An HTTP client of a person."""
        headers = {} if who is None else {"authorization": f"Bearer {self.keys[who]}"}
        async with httpx2.AsyncClient(
            base_url=self.url, verify=self.ca.client_context(), headers=headers, trust_env=False, timeout=20
        ) as client:
            yield client

    async def call(self, who: str, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 JSON
        """One call that has to succeed; its JSON."""
        async with self.client(who) as client:
            response = await client.request(method, path, json=body)
        assert response.is_success, response.text
        return response.json() if response.content else None

    async def grant(self, duration_s: int = 600) -> str:
        """Ada's active grant."""
        asked = {"target": "orders", "profile": "readonly", "reason": "look", "duration_s": duration_s}
        request = await self.call("ada", "POST", "/v1/requests", asked)
        approved = await self.call("carol", "POST", f"/v1/requests/{request['id']}/approve", {})
        return str(approved["grant"])

    async def revoke(self, grant: str) -> None:
        """End it."""
        await self.call("carol", "POST", f"/v1/grants/{grant}/revoke", {"reason": "over"})

    async def edge(self, name: str = "edge") -> "Edge":
        """A proxy that has joined."""
        edge = Edge(self, name)
        body = {
            "name": name,
            "join_token": self.command("join-token")[1],
            "public_key": proof.public_text(edge.key.public_key()),
        }
        async with self.client() as client:
            joined = await client.post("/v1/proxies/join", json=body)
        assert joined.is_success, joined.text
        return edge


class Edge:
    """A proxy: a key, signed requests, a stream of directives."""

    def __init__(self, service: Service, name: str) -> None:
        self.service = service
        self.name = name
        self.key = Ed25519PrivateKey.generate()

    def signed(self, method: str, path: str, body: bytes = b"") -> dict[str, str]:
        """The header for a request."""
        made = proof.make(self.key, proxy=self.name, method=method, path=path, body=body, now=time.time())
        return {"authorization": f"{proof.SCHEME} {made}"}

    async def ship(self, *lines: bytes) -> httpx2.Response:
        """Send journal lines."""
        body = b"".join(line + b"\n" for line in lines)
        async with self.service.client() as client:
            return await client.post("/v1/records", content=body, headers=self.signed("POST", "/v1/records", body))

    @asynccontextmanager
    async def follow(self, after: int = 0) -> AsyncIterator["Stream"]:
        """The directives."""
        path = f"/v1/directives?after={after}"
        async with (
            self.service.client() as client,
            client.stream("GET", path, headers=self.signed("GET", path)) as response,
        ):
            assert response.status_code == 200
            assert response.headers["content-type"] == "application/x-ndjson"
            yield Stream(response.aiter_lines())


class Stream:
    """Directives, one after the other."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines

    async def next(self, kind: type[AnyDirective] | None = None, *, within: float = 10.0) -> AnyDirective:
        """The next one (of this kind)."""
        async with asyncio.timeout(within):
            while True:
                directive = decode((await anext(self._lines)).encode())
                if kind is None or isinstance(directive, kind):
                    return directive

    async def ended(self, *, within: float = 10.0) -> bool:
        """Whether it ends in good order."""
        async with asyncio.timeout(within):
            async for _ in self._lines:
                pass
        return True


PYTHON = (sys.executable, "-c", "from control.cli import main; main()")
ENVIRONMENT = {"PYTHONPATH": str(REPOSITORY)}


def parse(text: str) -> Any:  # noqa: ANN401 JSON
    """The JSON in a text."""
    return json.loads(text)
