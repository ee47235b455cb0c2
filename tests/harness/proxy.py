"""A Curfew proxy of the tests' own: the real `curfew-proxy` process, its configuration, and tokens that it accepts.

It runs without a control service; `tests.harness.tokens.Signer` holds the signing key that control would hold.
"""

import http.client
import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg

from proxy.contract import record, verification
from proxy.contract.record import AnyRecord
from proxy.identity import load_or_create
from tests.harness import journals
from tests.harness.certs import Authority
from tests.harness.ports import free_port
from tests.harness.postgres import Cluster
from tests.harness.processes import Process
from tests.harness.roles import APP, KEEPER, READONLY
from tests.harness.tokens import AUDIENCE, ISSUER, Signer, grant
from tests.harness.waiting import eventually, eventually_sync
from tests.harness.wire import Wire

START_S = 30.0


@dataclass(kw_only=True)
class Proxy:
    """A proxy process in front of `cluster`. `start` (or `with`) it, and `close` it."""

    cluster: Cluster
    ca: Authority
    folder: Path
    signer: Signer = field(default_factory=Signer)
    options: Mapping[str, Any] = field(default_factory=dict)
    """Changes to [proxy]; None leaves an option out."""
    target: Mapping[str, Any] = field(default_factory=dict)
    """Changes to [targets.orders]."""
    further: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Further targets by name: each is [targets.orders] with these changes."""
    database: str = "postgres"
    environment: Mapping[str, str] = field(default_factory=dict)
    log_to: Path | None = None
    """Where its log goes instead of to `log`."""
    launcher: str = "proxy.cli"
    """The module that is run; another one than the command's may change what no option can."""
    process: Process | None = None

    def __post_init__(self) -> None:
        self.port = free_port()
        self.ops_port = free_port()
        self.state = self.folder / "state"
        self.config = self.folder / "config.toml"

    def write_config(self) -> Path:
        """Write the configuration and the files that it names."""
        self.folder.mkdir(parents=True, exist_ok=True)
        certificate = self.ca.server(folder=self.folder, stem="proxy")
        for login in (APP, KEEPER, READONLY):
            path = self.folder / f"{login.user}.password"
            path.touch(mode=0o600)
            path.write_text(login.password + "\n")
        (self.folder / "jwks.json").write_text(self.signer.jwks)
        proxy = {
            "name": "proxy-test",
            "listen": [f"127.0.0.1:{self.port}"],
            "ops_listen": f"127.0.0.1:{self.ops_port}",
            "state_dir": str(self.state),
            "tls_certificate_file": str(certificate.certificate),
            "tls_key_file": str(certificate.key),
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "jwks_file": str(self.folder / "jwks.json"),
            "log_level": "info",
            **self.options,
        }
        target = {
            "host": "localhost",
            "port": self.cluster.port,
            "database": self.database,
            "ca_file": str(self.ca.file),
            "keeper": {"user": KEEPER.user, "password": {"file": str(self.folder / f"{KEEPER.user}.password")}},
            "access": {
                "app": {"user": APP.user, "password": {"file": str(self.folder / f"{APP.user}.password")}},
                "readonly": {
                    "user": READONLY.user,
                    "password": {"file": str(self.folder / f"{READONLY.user}.password")},
                },
            },
            **self.target,
        }
        further = {name: {**target, **changes} for name, changes in self.further.items()}
        self.config.write_text(_toml({"proxy": proxy, "targets": {"orders": target, **further}}))
        return self.config

    def start(self) -> Self:
        """Start the process and wait until it is ready."""
        self.write_config()
        command = [sys.executable, "-m", self.launcher, "--config", str(self.config), "serve"]
        if self.log_to is not None:
            command = ["sh", "-c", 'log=$1; shift; exec "$@" 2>"$log"', "sh", str(self.log_to), *command]
        self.process = Process(command, environment=self.environment)
        eventually_sync(lambda: self._accepts() or self._died(), within=START_S)
        return self

    def _accepts(self) -> bool:
        # The ops port is bound last; connecting to the other one would count as a connection.
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.ops_port)) == 0

    def _died(self) -> bool:
        if self.process is not None and not self.process.running:
            raise AssertionError(f"the proxy did not start:\n{self.log()}")
        return False

    def log(self) -> str:
        """What the process has written so far."""
        return self.process.output if self.process is not None else ""

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.signal(number)

    def close(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def token(self, *, lasts_s: float = 600, **changes: Any) -> str:  # noqa: ANN401 any field of Grant
        """A token for a new grant, by default for `dba1` on `orders` as `app`."""
        made = grant(**{"id": new_grant_id(), "profile": "app", "lasts_s": lasts_s, **changes})
        return self.signer.token(made, exp=made.expires_at)

    async def connect(self, grant_token: str | None = None, **changes: Any) -> "asyncpg.Connection[asyncpg.Record]":  # noqa: ANN401 asyncpg's options
        """Connect with asyncpg, over TLS, as a person would."""
        options = {
            "host": "localhost",
            "port": self.port,
            "user": "dba1",
            "database": "orders",
            "password": grant_token or self.token(),
            "ssl": self.ca.client_context(),
            **changes,
        }
        return await asyncpg.connect(**options)

    @asynccontextmanager
    async def wire(
        self, grant_token: str | None = None, *, port: int | None = None, **parameters: str
    ) -> AsyncIterator[Wire]:
        """A raw client, logged in over TLS; by way of `port`, where something is in between. It is cut in the end."""
        named = {"user": "dba1", "database": "orders", **parameters}
        async with await Wire.tls(port or self.port, self.ca.client_context()) as wire:
            await wire.log_in(grant_token or self.token(), *named.items())
            yield wire

    def psql_env(self, grant_token: str | None = None, **changes: str) -> dict[str, str]:
        """The environment for psql and its kin."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("PG")},
            "PGHOST": "localhost",
            "PGHOSTADDR": "127.0.0.1",  # else a machine with IPv6 tries ::1 first, and psql tells of both
            "PGPORT": str(self.port),
            "PGUSER": "dba1",
            "PGDATABASE": "orders",
            "PGPASSWORD": grant_token or self.token(),
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": str(self.ca.file),
            **changes,
        }

    # The journal.

    def lines(self) -> list[bytes]:
        """Every line of the journal, in the order written; with several workers, one's after the other's."""
        return journals.written(self.state)

    def records(self, session: str | None = None) -> list[AnyRecord]:
        """The decoded records, of one session or of all."""
        decoded = [record.decode(line) for line in self.lines()]
        return [one for one in decoded if session in (None, one.session)]

    def sessions(self) -> dict[str, list[bytes]]:
        """The journal's lines by session."""
        found: dict[str, list[bytes]] = {}
        for line in self.lines():
            found.setdefault(record.decode(line).session, []).append(line)
        return found

    def ended(self) -> list[record.SessionEnd]:
        """Every session.end so far."""
        return [one for one in self.records() if isinstance(one, record.SessionEnd)]

    async def session_of(self, grant_id: str) -> list[bytes]:
        """The lines of the session on this grant, once it has ended, its chain and its signature checked."""

        def ended() -> list[bytes]:
            for lines in self.sessions().values():
                first = record.decode(lines[0])
                ended = isinstance(record.decode(lines[-1]), record.SessionEnd)
                if ended and isinstance(first, record.SessionStart) and first.grant == grant_id:
                    return lines
            return []

        lines = await eventually(ended, what=f"the end of the session on {grant_id}")
        verification.verify_chain(lines, load_or_create(self.state).public_key())
        return lines

    def descriptors(self) -> int:
        """How many file descriptors the process has."""
        assert self.process is not None
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def resident_bytes(self) -> int:
        """How much memory it has."""
        assert self.process is not None
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def metrics(self) -> dict[str, float]:
        """What /metrics shows, by name with labels."""
        answer = self.ops("/metrics")[1]
        shown = [line.rpartition(" ") for line in answer.splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in shown}

    def ops(self, path: str) -> tuple[int, str]:
        """Status and body of a GET on the operators' port."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ops_port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


def new_grant_id() -> str:
    """An id that no other grant has."""
    return f"grt_{secrets.token_hex(6)}"


def _toml(tables: Mapping[str, Any], path: Sequence[str] = ()) -> str:
    lines = [f"[{'.'.join(path)}]"] if path else []
    plain = {name: value for name, value in tables.items() if value is not None and not isinstance(value, Mapping)}
    lines += [f"{name} = {_value(value)}" for name, value in plain.items()]
    inner = [_toml(value, [*path, name]) for name, value in tables.items() if isinstance(value, Mapping)]
    return "\n".join([*lines, "", *inner])


def _value(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{name} = {_value(inner)}' for name, inner in value.items())} }}"
    return json.dumps(value)
