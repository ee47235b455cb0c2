"""A whole control service in this process, without a socket: a fake clock, a database in a folder, an HTTP client."""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from control.app import create_app
from control.config import Configuration, ControlSettings
from control.domain.people import Role
from control.domain.results import Success
from control.operations import keys, people
from control.services import Services, assemble
from control.times import SECOND
from proxy.contract import proof
from proxy.contract.record import Chain, Record, SessionEnd, SessionStart, StatementEnd, StatementStart
from proxy.contract.settings import AccessProfile, Keeper, Target

ISSUER = "https://control.example"
AUDIENCE = "fleet"
TARGETS = {
    "orders": Target(
        host="db",
        database="shop",
        description="The shop",
        keeper=Keeper(user="keeper"),
        access={"readonly": AccessProfile(user="ro", description="Look"), "dba": AccessProfile(user="owner")},
    ),
    "narrow": Target(
        host="db",
        database="one",
        databases=["one", "two"],
        keeper=Keeper(user="keeper"),
        access={"readonly": AccessProfile(user="ro")},
    ),
}
ROLES: Mapping[str, Role] = {
    "ada": Role.REQUESTER,
    "bob": Role.REQUESTER,
    "carol": Role.APPROVER,
    "eve": Role.AUDITOR,
    "root": Role.ADMIN,
}


class Clock:
    """Real time, which a test may set forward."""

    def __init__(self) -> None:
        self.ahead = 0
        self.stepped_s = 0.0
        self.stands_at: int | None = None

    def __call__(self) -> int:
        """Now."""
        return (self.stands_at or time.time_ns()) + self.ahead

    def watch(self) -> float:
        """The same, by a clock that goes with it but that nobody sets."""
        return self() / SECOND - self.stepped_s

    def stop(self) -> None:
        """From here on only the test lets time go by."""
        self.stands_at = time.time_ns()

    def step(self, seconds: float) -> None:
        """Set it, without any time going by."""
        self.pass_(seconds)
        self.stepped_s += seconds

    def pass_(self, seconds: float) -> None:
        """Let time go by."""
        self.ahead += int(seconds * SECOND)


class Desk:
    """The service and whoever calls it. `await start()`, and `close()` at the end."""

    def __init__(self, folder: Path, template: Path) -> None:
        """`template` is an empty database, so that not every test has to make one."""
        self.clock = Clock()
        settings = ControlSettings(
            state_dir=str(folder), issuer=ISSUER, audience=AUDIENCE, connect_host="proxy.example", plaintext=True
        )
        shutil.copy(template, settings.database)
        self.services: Services = assemble(
            Configuration(control=settings, targets=TARGETS), self.clock, self.clock.watch
        )
        self.app = create_app(self.services)
        transport = httpx2.ASGITransport(app=self.app, raise_app_exceptions=False)
        self.http = httpx2.AsyncClient(transport=transport, base_url="https://control.example")
        self.api_keys: dict[str, str] = {}

    async def start(self) -> None:
        """A signing key, and somebody for each role."""
        await keys.rotate(self.services, by="test")
        for name, role in ROLES.items():
            added = await people.add(self.services, name=name, full_name=name.title(), roles=[role], by="test")
            assert isinstance(added, Success)
            self.api_keys[name] = added.value[1]

    async def close(self) -> None:
        """Give everything back."""
        self.services.stop()
        await self.http.aclose()
        await self.services.store.close()

    async def call(self, who: str | None, method: str, path: str, body: object = None) -> httpx2.Response:
        """One call by a person."""
        headers = {} if who is None else {"authorization": f"Bearer {self.api_keys[who]}"}
        content = None
        if body is not None:  # json.dumps, because httpx2 does not send lone surrogates, and others may
            content, headers["content-type"] = json.dumps(body).encode(), "application/json"
        return await self.http.request(method, path, content=content, headers=headers)

    async def ok(self, who: str | None, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 JSON
        """One call by a person that has to succeed; its JSON."""
        response = await self.call(who, method, path, body)
        assert response.is_success, response.text
        return response.json() if response.content else None

    async def request(self, who: str = "ada", **changed: object) -> Any:  # noqa: ANN401 JSON
        """A pending request."""
        asked = {"target": "orders", "profile": "readonly", "duration_s": 600, "reason": "look at an order"}
        return await self.ok(who, "POST", "/v1/requests", asked | changed)

    async def grant(self, who: str = "ada", **changed: object) -> str:
        """An active grant's id."""
        request = await self.request(who, **changed)
        approved = await self.ok("carol", "POST", f"/v1/requests/{request['id']}/approve", {})
        grant: str = approved["grant"]
        return grant

    async def edge(self, name: str = "edge", *, join_token: str | None = None) -> "Edge":
        """A proxy that has joined."""
        if join_token is None:
            join_token = (await self.ok("root", "POST", "/v1/proxies/join-tokens"))["join_token"]
        edge = Edge(self, name)
        assert (await edge.join(join_token)).is_success
        return edge


class Edge:
    """A proxy: its key, its signed requests, its sessions."""

    def __init__(self, desk: Desk, name: str) -> None:
        self.desk = desk
        self.name = name
        self.key = Ed25519PrivateKey.generate()

    async def join(self, join_token: str) -> httpx2.Response:
        """Register the key."""
        public = proof.public_text(self.key.public_key())
        return await self.desk.http.post(
            "/v1/proxies/join", json={"name": self.name, "join_token": join_token, "public_key": public}
        )

    def signed(self, method: str, path: str, body: bytes = b"") -> dict[str, str]:
        """The header for a request."""
        now = self.desk.clock() / SECOND
        made = proof.make(self.key, proxy=self.name, method=method, path=path, body=body, now=now)
        return {"authorization": f"{proof.SCHEME} {made}"}

    async def ship(self, *lines: bytes) -> httpx2.Response:
        """Send journal lines."""
        body = b"".join(line + b"\n" for line in lines)
        return await self.desk.http.post("/v1/records", content=body, headers=self.signed("POST", "/v1/records", body))

    def session(
        self, session_id: str, *, person: str = "ada", grant: str = "grt_1", statements: int = 1
    ) -> list[bytes]:
        """A whole session's lines."""
        chain = Chain(session_id)
        lines = [chain.seal(self.start(person=person, grant=grant))]
        for number in range(1, statements + 1):
            lines += [chain.seal(record) for record in statement(number)]
        lines.append(chain.seal_signed(end(statements), self.key))
        return lines

    def start(self, *, person: str = "ada", grant: str = "grt_1") -> SessionStart:
        """A session's first record."""
        return SessionStart(
            grant=grant,
            person=person,
            expires_at=2_000_000_000 * SECOND,
            target="orders",
            database="shop",
            profile="readonly",
            upstream_user="ro",
            backend_pid=4711,
            backend_start="2026-11-22T00:00:00.000000+00:00",
            proxy=self.name,
        )


def statement(number: int, sql: str = "SELECT 1") -> list[Record]:
    """A statement's two records."""
    return [
        StatementStart(statement=number, kind="query", sql=sql, state="I", transaction=number),
        StatementEnd(
            statement=number, tags=["SELECT 1"], rows=1, duration=1_500_000, bytes_in=10, bytes_out=20, state="I"
        ),
    ]


def end(statements: int = 1, **changed: Any) -> SessionEnd:  # noqa: ANN401 any field
    """A session's last record."""
    fields: dict[str, Any] = {
        "reason": "closed",
        "decided_at": 1_000_000_000,
        "gone_at": 1_250_000_000,
        "outcome": "nothing open",
        "statements": statements,
        "bytes_in": 100,
        "bytes_out": 200,
    }
    return SessionEnd(**fields | changed)
