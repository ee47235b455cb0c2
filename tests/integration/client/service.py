"""A real control service for the tests of the command: its own process, over TLS, with people and a proxy."""

import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy.contract import proof
from proxy.contract.record import AuthRefused, Chain, Record, SessionEnd
from tests.harness.certs import Authority
from tests.harness.ports import free_port
from tests.harness.processes import Process, run
from tests.integration.client.person import PYTHON, REPOSITORY

ENVIRONMENT = {"PYTHONPATH": str(REPOSITORY)}
START_S = 60.0
PEOPLE = {
    "dba1": ("requester",),
    "dba2": ("requester",),
    "carol": ("approver", "requester"),
    "eve": ("auditor",),
    "lone": ("requester", "approver"),
}
CONFIGURATION = """
[control]
listen = "127.0.0.1:{port}"
tls_certificate_file = "{certificate}"
tls_key_file = "{key}"
state_dir = "{folder}/state"
issuer = "https://localhost:{port}"
connect_host = "localhost"
connect_port = {proxy_port}
"""
TARGETS = """
[targets.orders]
description = "The shop's orders"
host = "db.internal"
database = "shop"
keeper.user = "keeper"
access.readonly = { user = "reader", description = "Look" }
access.dba = { user = "owner" }

[targets.billing]
host = "db.internal"
database = "billing"
keeper.user = "keeper"
access.readonly = { user = "reader" }
"""


class Service:
    """`curfew-control serve`, set up by its own commands. A context manager."""

    def __init__(self, folder: Path, ca: Authority, *, targets: str = TARGETS) -> None:
        self.port, self.proxy_port = free_port(), free_port()
        self.url = f"https://localhost:{self.port}"
        self.ca_file, self.trust = ca.file, ca.client_context()
        files = ca.server(stem="control", folder=folder)
        self._config = folder / "config.toml"
        self._config.write_text(
            CONFIGURATION.format(
                port=self.port,
                proxy_port=self.proxy_port,
                certificate=files.certificate,
                key=files.key,
                folder=folder,
            )
            + targets
        )
        self.serving: Sequence[str] = self._command("serve")
        """What is started, without its options."""
        self.environment: Mapping[str, str] = ENVIRONMENT
        self.keys = {"root": self._control("init", "--admin", "root")}
        self._process: Process | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
            self._add_people()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Serve; again, where it was stopped or killed."""
        self.launch()
        self.listening()

    def launch(self) -> None:
        """Start the process, in a thread that stays: it ends with the one that started it."""
        self._process = Process([*self.serving, "--config", self._config], environment=self.environment)

    def listening(self) -> None:
        """Wait until it serves."""
        assert self._process is not None, "not launched"
        self._process.wait_for_output("listening", within=START_S)

    def stop(self) -> None:
        """SIGTERM, and wait."""
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None, "not launched"
        self._process.signal(number)

    def variables(self, name: str) -> dict[str, str]:
        """The environment of this person."""
        return {"CURFEW_URL": self.url, "CURFEW_API_KEY": self.keys[name], "CURFEW_CA_FILE": str(self.ca_file)}

    @property
    def pid(self) -> int:
        """Its process's."""
        assert self._process is not None, "not launched"
        return self._process.pid

    @property
    def database(self) -> Path:
        """Its books."""
        return self._config.parent / "state" / "control.sqlite3"

    def join_token(self) -> str:
        """A token that a proxy can join with."""
        return self._control("join-token")

    def _add_people(self) -> None:
        headers = {"Authorization": f"Bearer {self.keys['root']}"}
        with httpx2.Client(base_url=self.url, verify=self.trust, trust_env=False, headers=headers) as http:
            for name, roles in PEOPLE.items():
                added = http.post("/v1/people", json={"name": name, "roles": roles}).raise_for_status()
                self.keys[name] = added.json()["api_key"]

    def _control(self, *arguments: str) -> str:
        done = run([*self._command(*arguments), "--config", self._config], environment=ENVIRONMENT)
        return done.stdout.strip().splitlines()[-1]

    def _command(self, *arguments: str) -> list[str]:
        return [PYTHON, "-c", "from control.cli import main; main()", *arguments]


class Edge:
    """A proxy that has joined, as control sees it: it signs what it sends with its own key."""

    def __init__(self, service: Service, name: str = "edge") -> None:
        self.name = name
        self.key = Ed25519PrivateKey.generate()
        self.public_key = proof.public_text(self.key.public_key())
        self._http = httpx2.Client(base_url=service.url, verify=service.trust, trust_env=False)
        joining = {"name": name, "join_token": service.join_token(), "public_key": self.public_key}
        self._http.post("/v1/proxies/join", json=joining).raise_for_status()

    def close(self) -> None:
        """Hang up."""
        self._http.close()

    def send(self, session: str, *records: Record, at: int | None = None, step_ns: int = 1_000_000) -> list[bytes]:
        """Chain the records of one session, 1 ms apart, send them, and return their lines."""
        chain, at = Chain(session), time.time_ns() if at is None else at
        lines = []
        for number, record in enumerate(records):
            moment = at + number * step_ns
            if isinstance(record, SessionEnd | AuthRefused):
                lines.append(chain.seal_signed(record, self.key, at=moment))
            else:
                lines.append(chain.seal(record, at=moment))
        self.post(b"".join(line + b"\n" for line in lines)).raise_for_status()
        return lines

    def post(self, body: bytes) -> Any:  # noqa: ANN401 httpx2's response
        """Send journal lines as they are."""
        path = "/v1/records"
        made = proof.make(self.key, proxy=self.name, method="POST", path=path, body=body, now=time.time())
        return self._http.post(path, content=body, headers={"Authorization": f"{proof.SCHEME} {made}"})
