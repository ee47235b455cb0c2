"""Control, a proxy that has joined it, and PostgreSQL, as one stand; each of the services can go away and come back."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import asyncpg
import httpx2
import jwt

from proxy import membership
from proxy.contract.proof import public_text
from proxy.identity import load_or_create
from tests.harness import journals
from tests.harness.certs import Authority
from tests.harness.ports import free_port
from tests.harness.postgres import Cluster
from tests.harness.processes import Process
from tests.harness.roles import APP, KEEPER
from tests.harness.waiting import eventually
from tests.harness.wire import TERMINATE, Refused, Wire
from tests.integration.client.person import PYTHON, Person
from tests.integration.client.service import ENVIRONMENT, Service

TARGET = """
[targets.{name}]
lost_lease = "{lost_lease}"
host = "localhost"
port = {port}
database = "postgres"
ca_file = "{ca}"
keeper = {{ user = "{keeper.user}", password = {{ file = "{folder}/keeper" }} }}
access.readonly = {{ user = "{app.user}", password = {{ file = "{folder}/app" }} }}
"""
LOST_LEASE = {"orders": "refuse-new", "archive": "run-on", "vault": "end-sessions"}
"""The targets, and what each does while control is away."""
PROXY = """
[proxy]
name = "edge"
listen = ["127.0.0.1:{service.proxy_port}"]
ops_listen = "127.0.0.1:{ops_port}"
state_dir = "{folder}/proxy"
tls_certificate_file = "{files.certificate}"
tls_key_file = "{files.key}"
issuer = "{service.url}"
audience = "curfew"

[proxy.control]
url = "{service.url}"
ca_file = "{ca}"
join_token = {{ file = "{folder}/join" }}
"""


def secret(path: Path, text: str) -> None:
    """A file with a secret, for its owner alone."""
    path.touch(mode=0o600)
    path.write_text(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A grant of dba1's, and its token."""

    grant: str
    token: str
    target: str

    @property
    def kid(self) -> str:
        """Which key signed the token."""
        return str(jwt.get_unverified_header(self.token)["kid"])


CLOSE_S = 5.0
GARBAGE = Pass(grant="", token="garbage", target="orders")
"""What was never a token."""


class Whole:
    """The stand. A context manager."""

    def __init__(self, cluster: Cluster, ca: Authority, folder: Path, workers: int = 1) -> None:
        self.cluster, self._ca, self._folder = cluster, ca, folder
        self._proxy: Process | None = None
        secret(folder / "keeper", KEEPER.password)
        secret(folder / "app", APP.password)
        known = {"port": cluster.port, "ca": ca.file, "keeper": KEEPER, "app": APP, "folder": folder}
        targets = "".join(TARGET.format(name=name, lost_lease=what, **known) for name, what in LOST_LEASE.items())
        self.service = Service(folder, ca, targets=targets)
        files = ca.server(stem="proxy", folder=folder)
        text = PROXY.format(service=self.service, ops_port=free_port(), folder=folder, files=files, ca=ca.file)
        self._settings = text + targets
        self.use_workers(workers)

    def __enter__(self) -> Self:
        try:
            self.service.__enter__()
            secret(self._folder / "join", self.service.join_token())
            self._launch_proxy()
            self.proxy.wait_for_output("following control's directives")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._proxy is not None:
            self._proxy.stop()
        self.service.stop()

    # The proxy.

    def use_workers(self, workers: int) -> None:
        """Have the proxy run as so many from its next start on."""
        text = self._settings.replace("[proxy]\n", f"[proxy]\nworkers = {workers}\n")
        (self._folder / "proxy.toml").write_text(text)

    def settings_of(self, name: str, *, port: int, folder: Path) -> str:
        """The configuration of one more proxy, which listens on `port` and keeps what it knows in `folder`."""
        changes = {
            'name = "edge"': f'name = "{name}"',
            f'listen = ["127.0.0.1:{self.service.proxy_port}"]': f'listen = ["127.0.0.1:{port}"]',
            f'state_dir = "{self._folder}/proxy"': f'state_dir = "{folder}/proxy"',
            f'file = "{self._folder}/join"': f'file = "{folder}/join"',
        }
        text = re.sub(r'ops_listen = "[^"]*"', f'ops_listen = "127.0.0.1:{free_port()}"', self._settings)
        for old, new in changes.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        return text

    @property
    def lines(self) -> list[bytes]:
        """Every line of the proxy's journals."""
        return journals.written(self._folder / "proxy")

    @property
    def proxy(self) -> Process:
        """The proxy's process."""
        assert self._proxy is not None, "not started"
        return self._proxy

    @property
    def public_key(self) -> str:
        """What the proxy signs its records with, from the proxy itself."""
        return public_text(load_or_create(self._folder / "proxy").public_key())

    def _launch_proxy(self) -> None:
        command = [PYTHON, "-m", "proxy.cli", "--config", str(self._folder / "proxy.toml"), "serve"]
        self._proxy = Process(command, environment=ENVIRONMENT)

    async def kill_proxy(self) -> None:
        """SIGKILL."""
        await asyncio.to_thread(self.proxy.kill)

    async def start_proxy(self) -> None:
        """Start it again, until it listens."""
        self._launch_proxy()  # not in a thread that ends: the process would end with it
        await asyncio.to_thread(self.proxy.wait_for_output, "listening")

    def refusals(self) -> list[tuple[str, str]]:
        """Which grants' logins this run of the proxy has refused, and why, by its log."""
        lines = [json.loads(line) for line in self.proxy.output.splitlines() if line.endswith("}")]
        return [(line["grant"], line["refusal"]) for line in lines if line["event"] == "access refused"]

    @property
    def followed(self) -> int:
        """How often this run of the proxy has begun to follow control."""
        return self.proxy.output.count("following control's directives")

    def kept_by_proxy(self, grant: str) -> bool:
        """Whether the proxy has written down that this grant is revoked."""
        return grant in (self._folder / "proxy" / membership.FILE).read_text()

    def kept_by_workers(self, grant: str) -> bool:
        """The same, of every worker."""
        kept = list((self._folder / "proxy").glob(f"worker-*/{membership.FILE}"))
        return bool(kept) and all(grant in path.read_text() for path in kept)

    async def log_in(self, one: Pass, port: int | None = None) -> Wire:
        """A session on this pass, by way of `port` where it is not the stand's own proxy. Raises Refused."""
        wire = await Wire.tls(port or self.service.proxy_port, self._ca.client_context())
        try:
            await wire.log_in(one.token, ("user", "dba1"), ("database", one.target))
        except BaseException:
            wire.cut()
            raise
        return wire

    @asynccontextmanager
    async def session(self, one: Pass) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        """A session on this pass, with asyncpg."""
        connection = await asyncpg.connect(
            host="localhost",
            port=self.service.proxy_port,
            user="dba1",
            password=one.token,
            database=one.target,
            ssl=self._ca.client_context(),
        )
        try:
            yield connection
        finally:
            await connection.close(timeout=CLOSE_S)

    async def refusal(self, one: Pass) -> dict[str, str] | None:
        """The error that a login on this pass ends with, word for word; None where it is admitted."""
        try:
            async with await self.log_in(one) as wire:
                wire.send(TERMINATE)
        except Refused as error:
            return error.fields
        return None

    def psql_environment(self, one: Pass) -> dict[str, str]:
        """What PostgreSQL's own client connects by."""
        port = str(self.service.proxy_port)
        place = {"PGHOST": "localhost", "PGHOSTADDR": "127.0.0.1", "PGPORT": port, "PGDATABASE": one.target}
        person = {"PGUSER": "dba1", "PGPASSWORD": one.token}
        return place | person | {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(self._ca.file)}

    # Control.

    async def kill_control(self) -> None:
        """SIGKILL."""
        await asyncio.to_thread(self.service.kill)

    async def start_control(self) -> None:
        """Start it again, until it serves."""
        self.service.launch()
        await asyncio.to_thread(self.service.listening)

    async def api(self, person: str, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 whatever JSON it is
        """One call, which has to succeed."""
        headers = {"Authorization": f"Bearer {self.service.keys[person]}"}
        async with httpx2.AsyncClient(
            base_url=self.service.url, verify=self.service.trust, trust_env=False, headers=headers
        ) as http:
            answer = await http.request(method, f"/v1{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json()

    async def grant(self, target: str = "orders", **asked: object) -> Pass:
        """A new grant for dba1, which carol approves, and its token."""
        body = {"target": target, "profile": "readonly", "reason": "a test", "duration_s": 600, **asked}
        request = await self.api("dba1", "POST", "/requests", body)
        approved = await self.api("carol", "POST", f"/requests/{request['id']}/approve", {})
        return await self.token(approved["grant"], target)

    async def token(self, grant: str, target: str = "orders") -> Pass:
        """A fresh token for a grant of dba1's."""
        issued = await self.api("dba1", "POST", f"/grants/{grant}/token")
        return Pass(grant=grant, token=issued["token"], target=target)

    async def revoke(self, one: Pass) -> None:
        """Have carol revoke the grant."""
        await self.api("carol", "POST", f"/grants/{one.grant}/revoke", {"reason": "enough"})

    async def ended(self, one: Pass) -> dict[str, Any]:
        """The one session on this grant, once control knows that it has ended."""

        async def found() -> list[dict[str, Any]]:
            listed: list[dict[str, Any]] = (await self.api("eve", "GET", f"/sessions?grant={one.grant}"))["items"]
            return [session for session in listed if session["state"] == "ended"]

        what = f"the end of the session on {one.grant}"
        sessions: list[dict[str, Any]] = await eventually(found, within=20, what=what)
        assert len(sessions) == 1
        return sessions[0]

    async def verify(self, session: str, public_key: str | None = None) -> str:
        """What `curfew verify` says to the auditor, with the proxy's own key (by default the stand's own proxy's)."""
        eve = Person(home=self._folder, variables=self.service.variables("eve"))
        return await asyncio.to_thread(eve.ok, "verify", session, "--public-key", public_key or self.public_key)
