"""What the demo runs on: a PostgreSQL with data, the control service, a proxy that has joined, and three people.

Owns one temporary folder and every process in it, and leaves nothing of them behind. Plays no scene.
"""

import json
import re
import secrets
import shlex
import signal
import ssl
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from urllib.error import URLError

import jwt

from deploy.demo.people import PROGRAMS, Person
from deploy.demo.play import Play
from tests.harness.binaries import postgresql_bin
from tests.harness.certs import Authority
from tests.harness.ports import free_port
from tests.harness.postgres import Cluster
from tests.harness.processes import Process, run
from tests.harness.waiting import eventually_sync

HERE = Path(__file__).parent
KEEPER_SQL = HERE.parent / "keeper.sql"
KEEPER, DBA, READONLY = "curfew_keeper", "curfew_dba", "curfew_readonly"
DATABASES = ("orders", "orders_copy")
ROLES = {"alice": "approver", "dba1": "requester", "audrey": "auditor"}
START_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """A grant of dba1's, and how PostgreSQL's clients are told of it."""

    id: str
    expires_at: float
    environment: Mapping[str, str] = field(repr=False)
    """libpq's variables, as `curfew token` prints them: PGHOST, PGPASSWORD and so on."""


@dataclass(slots=True, kw_only=True)
class Stage:
    """Everything that runs, while it runs."""

    folder: Path
    authority: Authority
    postgres: Cluster
    control_port: int = field(default_factory=free_port)
    proxy_port: int = field(default_factory=free_port)
    ops_port: int = field(default_factory=free_port)
    people: dict[str, Person] = field(default_factory=dict)
    services: dict[str, Process] = field(default_factory=dict)

    @property
    def control_url(self) -> str:
        """Where the API is."""
        return f"https://localhost:{self.control_port}"

    @property
    def config(self) -> Path:
        """The configuration of both services."""
        return self.folder / "config.toml"

    @property
    def ended(self) -> list[str]:
        """What should run and does not."""
        return [name for name, process in self.services.items() if not process.running]

    def log(self, name: str) -> str:
        """What a service has written."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def granted(self, *, lasts: str, reason: str, databases: tuple[str, ...] = ("orders",)) -> Granted:
        """A new grant: dba1 asks, alice approves, dba1 takes the token. All of it by the `curfew` command."""
        named = [part for name in databases for part in ("--database", name)]
        asked = self.people["dba1"].curfew(
            "request", "orders", "dba", "--for", lasts, "--reason", reason, *named, "--json"
        )
        approved = self.people["alice"].told("approve", json.loads(asked)["id"], "--comment", "go ahead")
        grant = re.search(r"grt_\w+", approved)
        assert grant, approved
        # A short grant has begun to run: nothing more than must be until it is used.
        lines = self.people["dba1"].curfew("token", grant[0], "--format", "env").splitlines()
        variables = {name: value for name, _, value in (shlex.split(line)[1].partition("=") for line in lines)}
        claims = jwt.decode(variables["PGPASSWORD"], options={"verify_signature": False})
        return Granted(id=claims["jti"], expires_at=claims["exp"], environment=variables)


@contextmanager
def standing(play: Play) -> Iterator[Stage]:
    """A stage, set up while `play` tells it; taken down in the end, whatever happens."""
    with ExitStack() as ends:
        try:
            yield _set_up(play, ends)
        finally:
            # A second Ctrl-C must not keep the first one from its work.
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)


def _set_up(play: Play, ends: ExitStack) -> Stage:
    folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="curfew-demo-")))
    with play.step("PostgreSQL runs, with TLS and SCRAM") as step:
        authority = Authority(folder)
        postgres = ends.enter_context(Cluster(authority))
        play.logs["PostgreSQL"] = lambda: postgres.output
        step.found = postgres.psql("SELECT 'version ' || current_setting('server_version')")
    stage = Stage(folder=folder, authority=authority, postgres=postgres)
    with play.step("a target with data in it") as step:
        _make_target(stage)
        step.found = postgres.psql("SELECT count(*) || ' orders' FROM orders", database="orders")
    with play.step("the control service runs, and knows three people") as step:
        ends.enter_context(_control(stage, play))
        step.found = ", ".join(f"{name} ({role})" for name, role in ROLES.items())
    with play.step("a proxy has joined it") as step:
        ends.enter_context(_proxy(stage, play))
        step.found = f"it listens at localhost:{stage.proxy_port}"
    return stage


# --- PostgreSQL


def _make_target(stage: Stage) -> None:
    """The keeper as deploy/keeper.sql makes it, the logins of the two profiles, and the shop's databases."""
    postgres = stage.postgres
    (stage.folder / "secrets").mkdir(mode=0o700)
    postgres.psql(KEEPER_SQL.read_text())
    postgres.psql(f"CREATE ROLE {DBA} LOGIN; CREATE ROLE {READONLY} LOGIN; GRANT pg_read_all_data TO {READONLY}")
    for role in (KEEPER, DBA, READONLY):
        password = secrets.token_urlsafe(24)
        _keep(stage, role, password)
        postgres.psql(f"ALTER ROLE {role} PASSWORD :'password'", password=password)
    for database in DATABASES:
        postgres.psql(f"CREATE DATABASE {database} OWNER {DBA}")
    postgres.psql(f"SET ROLE {DBA};\n" + (HERE / "orders.sql").read_text(), database="orders")
    dsn = postgres.dsn(DBA, (stage.folder / "secrets" / DBA).read_text(), "orders")
    run([postgresql_bin() / "pgbench", "-i", "-s", "1", "-q", dsn])


def _keep(stage: Stage, name: str, secret: str) -> None:
    path = stage.folder / "secrets" / name
    path.touch(mode=0o600)
    path.write_text(secret)


# --- the services


@contextmanager
def _control(stage: Stage, play: Play) -> Iterator[None]:
    stage.authority.server(stem="control")
    stage.authority.server(stem="proxy")
    values = {
        "folder": stage.folder,
        "control_port": stage.control_port,
        "proxy_port": stage.proxy_port,
        "ops_port": stage.ops_port,
        "postgres_port": stage.postgres.port,
    }
    stage.config.write_text(Template((HERE / "config.toml").read_text()).substitute(values))
    _control_does(stage, "init", "--admin", "root")
    with _service(stage, play, "control", [PROGRAMS / "curfew-control", "serve", "--config", stage.config]):
        context = stage.authority.client_context()
        _wait_until_ready(stage, "control", f"{stage.control_url}/readyz", context)
        for name, role in ROLES.items():
            key = _control_does(stage, "person", "add", name, "--role", role)
            stage.people[name] = Person(name=name, home=stage.folder / name, api_key=key)
            stage.people[name].log_in(stage.control_url, stage.authority.file)
        yield


@contextmanager
def _proxy(stage: Stage, play: Play) -> Iterator[None]:
    _keep(stage, "join-token", _control_does(stage, "join-token"))
    with _service(stage, play, "proxy", [PROGRAMS / "curfew-proxy", "--config", stage.config, "serve"]):
        _wait_until_ready(stage, "proxy", f"http://127.0.0.1:{stage.ops_port}/readyz", None)
        yield


@contextmanager
def _service(stage: Stage, play: Play, name: str, command: list[str | Path]) -> Iterator[None]:
    """Run a service that logs into a file: a demo may stay up for long."""
    log = stage.folder / f"{name}.log"
    log.touch()
    play.logs[name] = lambda: stage.log(name)
    to_file: list[str | Path] = ["/bin/sh", "-c", 'exec "$@" >>"$0" 2>&1', log]
    with Process([*to_file, *command]) as process:
        stage.services[name] = process
        yield


def _control_does(stage: Stage, *arguments: str) -> str:
    """The one line that `curfew-control` prints: a key or a token."""
    return run([PROGRAMS / "curfew-control", *arguments, "--config", stage.config]).stdout.strip()


def _wait_until_ready(stage: Stage, name: str, url: str, context: ssl.SSLContext | None) -> None:
    handler = urllib.request.HTTPSHandler(context=context)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), handler)

    def ready() -> bool:
        assert stage.services[name].running, f"the {name} service has ended"
        try:
            with opener.open(url, timeout=5):
                return True
        except (URLError, OSError):
            return False

    eventually_sync(ready, within=START_S, what=f"{url} says that the service is ready")
