"""What the rounds need: one PostgreSQL that logs all, one real control, and several proxies, each with its clients.

The proxies differ in durability and in the number of workers. Each keeps its journal on a small disk of its own, where
the machine lets one be mounted, and stands on the failing layer, where there is a C compiler.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from tests.faults.journal.layer import Layer, build
from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proc import children
from tests.harness.processes import Process
from tests.harness.proxy import Proxy
from tests.harness.waiting import TooLateError, eventually
from tests.integration.client.service import ENVIRONMENT, Service
from tests.integration.session.matrix import small_disk
from tests.integration.session.triggers import can_mount

DATABASE = "faults"
MIB = 1 << 20
DISK_BYTES = 40 * MIB
SEGMENT_BYTES = MIB
"""Small, so that segments change often."""
LIMIT_BYTES = 16 * MIB
GRANT_S = 28_800
PATIENCE_S = 120.0
_HBA = "host all all 127.0.0.1/32 scram-sha-256"
_TARGET = f"""
[targets.orders]
lost_lease = "run-on"
host = "127.0.0.1"
database = "{DATABASE}"
keeper.user = "{roles.KEEPER.user}"
access.app = {{ user = "{roles.APP.user}" }}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How a proxy is set up."""

    durability: str
    workers: int

    def __str__(self) -> str:
        return f"{self.durability}-{self.workers}"


KINDS = tuple(Kind(durability=how, workers=workers) for workers in (1, 2) for how in ("process", "disk"))


@dataclass(slots=True, kw_only=True)
class Site:
    """One proxy, what it stands on, and how its clients fare."""

    kind: Kind
    proxy: Proxy
    layer: Layer | None
    disk: bool
    """Whether its state is on a disk of its own."""
    token: str
    answered: int = 0
    """Statements that went well."""
    refused: int = 0
    """Statements that the journal did not take (58030)."""

    def launch(self) -> None:
        """Start the proxy, as a service manager does: nobody waits until it is there."""
        command = [sys.executable, "-m", "proxy.cli", "--config", str(self.proxy.config), "serve"]
        self.proxy.process = Process(command, environment=self.proxy.environment)

    @property
    def process(self) -> Process:
        """Its process: the supervisor, where there are workers."""
        assert self.proxy.process is not None
        return self.proxy.process

    def workers(self) -> list[int]:
        """The pids of its workers, as far as they have been started."""
        return children(self.process.pid)

    def start_again(self) -> None:
        """Kill all of it, and launch it."""
        self.process.kill()
        self.launch()

    async def served(self, count: int = 1) -> bool:
        """Wait for so many more answers; whether they came in time.

        A proxy that has ended is started again, as a service manager does.
        """
        goal = self.answered + count

        def served() -> bool:
            if not self.process.running:
                self.launch()
            return self.answered >= goal

        try:
            await eventually(served, within=PATIENCE_S)
        except TooLateError:
            print(f"{self.kind} serves nobody:\n{self.proxy.log()[-4_000:]}")  # noqa: T201 for whoever has to find out
            return False
        return True

    async def said_no(self, count: int = 1) -> None:
        """Wait until the journal has refused so many statements."""
        goal = self.refused + count
        await eventually(lambda: self.refused >= goal, within=PATIENCE_S, what=f"{self.kind}: a refused statement")


@dataclass(slots=True, kw_only=True)
class Stand:
    """All of it."""

    cluster: Cluster
    control: Service
    orders: Path
    """What control's answers to records are to be (`tests.faults.journal.control`)."""
    sites: list[Site] = field(default_factory=list)

    def answers(self, *words: str) -> None:
        """Have control treat posts so, each by one of these words."""
        written = self.orders.with_suffix(".new")
        written.write_text(" ".join(words))
        written.replace(self.orders)

    async def restart_control(self) -> None:
        """Launch control again, and wait until it serves."""
        self.control.launch()
        await asyncio.to_thread(self.control.listening)


@asynccontextmanager
async def standing(cluster: Cluster, ca: Authority, folder: Path, kinds: Sequence[Kind]) -> AsyncIterator[Stand]:
    """A stand whose proxies are ready."""
    async with AsyncExitStack() as stack:
        control = await asyncio.to_thread(Service, folder, ca, targets=_TARGET)
        stand = Stand(cluster=cluster, control=control, orders=folder / "orders")
        stand.answers("well")
        control.serving = [sys.executable, "-m", "tests.faults.journal.control", "serve"]
        control.environment = {**ENVIRONMENT, "CURFEW_FAULTS": str(stand.orders)}
        stack.callback(control.kill)
        control.__enter__()
        token = await _token(control)
        library = await asyncio.to_thread(build, folder)
        for kind in kinds:
            place = folder / str(kind)
            proxy = _proxy(kind, cluster, ca, control, place)
            if on_disk := can_mount():
                stack.callback(small_disk(proxy.state, DISK_BYTES))
            layer = None if library is None else Layer(place, library)
            proxy.environment = {} if layer is None else layer.environment
            site = Site(kind=kind, proxy=proxy, layer=layer, disk=on_disk, token=token)
            stack.push_async_callback(asyncio.to_thread, proxy.close)
            site.launch()
            stand.sites.append(site)
        yield stand


def _proxy(kind: Kind, cluster: Cluster, ca: Authority, control: Service, folder: Path) -> Proxy:
    folder.mkdir()
    (folder / "join").touch(mode=0o600)
    (folder / "join").write_text(control.join_token())
    options: dict[str, Any] = {
        "name": str(kind),
        "control": {"url": control.url, "ca_file": str(ca.file), "join_token": {"file": str(folder / "join")}},
        "jwks_file": None,
        "issuer": None,
        "audience": None,
        "plaintext": "loopback",
        "workers": kind.workers,
        "warn_before_s": [],
        "journal": {"segment_bytes": SEGMENT_BYTES, "limit_bytes": LIMIT_BYTES},
    }
    target: Mapping[str, Any] = {
        "host": "127.0.0.1",
        "sslmode": "disable",
        "durability": kind.durability,
        "lost_lease": "run-on",
    }
    proxy = Proxy(cluster=cluster, ca=ca, folder=folder, options=options, target=target, database=DATABASE)
    proxy.write_config()
    return proxy


def cluster(ca: Authority) -> Cluster:
    """A PostgreSQL for it, not yet started."""
    return Cluster(ca, log_statements=True, hba=[_HBA])


def furnish(cluster: Cluster) -> None:
    """The logins and the database, once it is started."""
    roles.install(cluster)
    roles.create_database(cluster, DATABASE)


async def _token(control: Service) -> str:
    """A token for a grant that outlasts the campaign."""

    async def call(person: str, path: str, body: object) -> Any:  # noqa: ANN401 JSON
        headers = {"Authorization": f"Bearer {control.keys[person]}"}
        async with httpx2.AsyncClient(
            base_url=control.url, verify=control.trust, trust_env=False, headers=headers
        ) as http:
            return (await http.post(f"/v1{path}", json=body)).raise_for_status().json()

    asked = {"target": "orders", "profile": "app", "reason": "faults", "duration_s": GRANT_S}
    request = await call("dba1", "/requests", asked)
    approved = await call("carol", f"/requests/{request['id']}/approve", {})
    return str((await call("dba1", f"/grants/{approved['grant']}/token", None))["token"])
