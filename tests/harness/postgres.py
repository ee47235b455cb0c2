"""A PostgreSQL server of the tests' own, over TLS and SCRAM, in a temporary folder that goes away with it.

`initdb` runs once per process; every Cluster is a copy of that template. Owns nothing outside its folder and is never
reachable but on loopback and its own unix socket.
"""

import atexit
import contextlib
import functools
import os
import secrets
import shutil
import signal
import ssl
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlencode

import asyncpg

from tests.harness.binaries import postgresql_bin
from tests.harness.certs import Authority
from tests.harness.ports import free_port
from tests.harness.proc import children
from tests.harness.processes import Account, Process, run, unprivileged
from tests.harness.waiting import TooLateError, eventually_sync

SUPERUSER = "postgres"
START_S = 60.0
_START_ATTEMPTS = 5

_HBA = """\
local   all         all               scram-sha-256
hostssl all         all  127.0.0.1/32 scram-sha-256
hostssl all         all  ::1/128      scram-sha-256
local   replication all               scram-sha-256
hostssl replication all  127.0.0.1/32 scram-sha-256
"""

_SETTINGS: Mapping[str, str] = {
    "autovacuum": "off",
    "fsync": "off",
    "full_page_writes": "off",
    "log_line_prefix": "'%m [%p] %q%u@%d '",
    "max_connections": "300",
    "max_prepared_transactions": "20",
    "max_wal_senders": "4",
    "password_encryption": "'scram-sha-256'",
    "shared_buffers": "'64MB'",
    "ssl": "on",
    "ssl_ca_file": "'ca.pem'",
    "ssl_cert_file": "'server.pem'",
    "ssl_key_file": "'server.key'",
    "synchronous_commit": "off",
    "timezone": "'UTC'",
}

_LOG_STATEMENTS: Mapping[str, str] = {
    "log_destination": "'csvlog'",
    "log_directory": "'log'",
    "log_filename": "'postgresql.log'",
    "log_rotation_age": "0",
    "log_rotation_size": "0",
    "log_statement": "'all'",
    "logging_collector": "on",
}


class Cluster:
    """One PostgreSQL server. `start` (or `with`) it, and `close` it."""

    def __init__(
        self,
        authority: Authority,
        *,
        settings: Mapping[str, str] | None = None,
        hba: Sequence[str] = (),
        log_statements: bool = False,
        programs: Path | None = None,
    ) -> None:
        """Make the folder; start nothing. `programs`: another PostgreSQL's bin folder than `postgresql_bin`.

        `settings` are lines of postgresql.conf (quote texts yourself), `hba` lines go before the harness's own, and
        `log_statements` has the server write every statement into a csvlog (see `tests.harness.serverlog`).
        """
        self.authority = authority
        self.account = unprivileged()
        self._programs = programs or postgresql_bin()
        self.password, template = _template(self.account, self._programs)
        self.folder = _reachable_folder("curfew-pg-", self.account)
        self.data = self.folder / "data"
        self.host = "127.0.0.1"
        self.port = 0
        self.superuser = SUPERUSER
        self._process: Process | None = None
        run(["cp", "-R", template, self.data], account=self.account)
        self.data.chmod(0o700)
        self._install_certificates()
        self._write("pg_hba.conf", "\n".join([*hba, _HBA]))
        self.configure(**{**_SETTINGS, **(_LOG_STATEMENTS if log_statements else {}), **(settings or {})})

    # --- life

    def start(self) -> None:
        """Run the server until it takes connections. A port that somebody else took meanwhile is exchanged."""
        for attempt in range(_START_ATTEMPTS):
            self.port = self.port or free_port()
            process = self._launch()
            if self._comes_up(process):
                self._process = process
                return
            said = process.output + self._log_tail()
            if "Address already in use" not in said or attempt == _START_ATTEMPTS - 1:
                raise RuntimeError(f"PostgreSQL did not start:\n{said}")
            self.port = 0

    def stop(self, *, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT is PostgreSQL's fast shutdown, SIGTERM waits for clients, SIGQUIT is immediate."""
        if self._process is not None and self._process.running:
            self._process.signal(how)
            self._process.wait(within=START_S)
        self._process = None

    def restart(self) -> None:
        """Stop and start on the same port."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """SIGKILL to every process of the server, as when the machine dies."""
        if self._process is None:
            return
        # Each child is a session of its own (setsid in InitPostmasterChild), so the process group does not reach it.
        left = children(self.pid)
        self._process.kill()
        for child in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self._process = None

    def close(self) -> None:
        """Stop at once and remove the folder."""
        self.stop(how=signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def output(self) -> str:
        """What the running server wrote to its standard error (nothing but the start, with `log_statements`)."""
        return "" if self._process is None else self._process.output

    # --- settings

    def configure(self, **settings: str) -> None:
        """Lay `settings` over those in force; they count from the next start, or `reload`."""
        self._settings = {**getattr(self, "_settings", {}), **settings}
        self._write("curfew.conf", "".join(f"{name} = {value}\n" for name, value in self._settings.items()))

    def reload(self) -> None:
        """Have the server read its settings, pg_hba.conf and certificates again (SIGHUP)."""
        assert self._process is not None, "not started"
        self._process.signal(signal.SIGHUP)

    # --- use

    def dsn(self, user: str = "", password: str = "", database: str = "postgres", **options: str) -> str:
        """A libpq URI over TLS with the name checked; the superuser's where no user is named."""
        user, password = (user, password) if user else (self.superuser, self.password)
        options = {"sslmode": "verify-full", "sslrootcert": str(self.authority.file), **options}
        return (
            f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@{self.host}:{self.port}"
            f"/{quote(database, safe='')}?{urlencode(options, quote_via=quote)}"
        )

    def client_context(self) -> ssl.SSLContext:
        """A TLS context that trusts this server's authority alone."""
        return self.authority.client_context()

    async def connect(
        self, user: str = "", password: str = "", database: str = "postgres", **options: object
    ) -> "asyncpg.Connection[asyncpg.Record]":
        """A connection by asyncpg over TLS, as the superuser where no user is named. The caller closes it."""
        user, password = (user, password) if user else (self.superuser, self.password)
        return await asyncpg.connect(
            host=self.host,
            port=self.port,
            user=user,
            password=password,
            database=database,
            ssl=self.client_context(),
            **options,
        )

    async def sql(self, statement: str, *arguments: object, database: str = "postgres") -> "list[asyncpg.Record]":
        """The rows of one statement that the superuser runs on a connection of its own."""
        connection = await self.connect(database=database)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
            return rows
        finally:
            await connection.close()

    def psql(self, text: str, *, database: str = "postgres", **variables: str) -> str:
        """What psql prints for a whole script by the superuser: unaligned, no headers. Stops at the first error."""
        flags = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", str(self.folder), "-p", str(self.port)]
        given = [part for name, value in variables.items() for part in ("-v", f"{name}={value}")]
        command: list[str | Path] = [
            self._programs / "psql",
            *flags,
            *given,
            "-U",
            self.superuser,
            "-d",
            database,
            "-f",
            "-",
        ]
        return run(command, environment={"PGPASSWORD": self.password}, text=text).stdout.strip()

    # --- inside

    def _launch(self) -> Process:
        """Run `postgres` itself, not pg_ctl: it then is our child, and its end is seen at once."""
        sockets = ["-c", f"unix_socket_directories={self.folder}", "-c", f"listen_addresses={self.host}"]
        command: list[str | Path] = [self._programs / "postgres", "-D", self.data, "-p", str(self.port), *sockets]
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        return Process(command, account=self.account, folder=Path("/"))

    def _comes_up(self, process: Process) -> bool:
        """Whether the server gets ready; where it does not, it has ended when this returns."""
        try:
            eventually_sync(lambda: self._ready() or not process.running, within=START_S, what="PostgreSQL's start")
        except TooLateError:
            process.kill()
        return process.running

    def _log_tail(self) -> str:
        """The server's own log files, where it keeps any."""
        return "".join(path.read_text(errors="replace")[-4_000:] for path in self.data.glob("log/postgresql.*"))

    def _ready(self) -> bool:
        """Whether postmaster.pid says that connections are taken (its line 8, see miscadmin.h): none is needed."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[7].strip() in ("ready", "standby")

    def _install_certificates(self) -> None:
        files = self.authority.server(folder=self.data)
        shutil.copyfile(self.authority.file, self.data / "ca.pem")
        _give(self.account, files.key, files.certificate, self.data / "ca.pem")

    def _write(self, name: str, text: str) -> None:
        path = self.data / name
        path.write_text(text)
        _give(self.account, path)


def _give(account: Account | None, *paths: Path) -> None:
    for path in paths if account else ():
        assert account is not None
        os.chown(path, account.uid, account.gid)


def _reachable_folder(prefix: str, account: Account | None) -> Path:
    """A new folder of `account`'s in the machine's temporary one (pytest's own are closed to everybody else)."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o755)
    _give(account, folder)
    return folder


@functools.cache
def _template(account: Account | None, programs: Path) -> tuple[str, Path]:
    """The superuser's password and a freshly made data folder, made once per process and version."""
    folder = _reachable_folder("curfew-initdb-", account)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    password, data = secrets.token_urlsafe(18), folder / "data"
    secret = folder / "password"
    secret.write_text(password)
    secret.chmod(0o600)
    _give(account, secret)
    options = [
        "--auth=scram-sha-256",
        f"--pwfile={secret}",
        f"--username={SUPERUSER}",
        "--no-sync",
        "--no-instructions",
    ]
    run([programs / "initdb", "-D", data, *options, "--encoding=UTF8", "--locale=C"], account=account)
    with (data / "postgresql.conf").open("a") as file:
        file.write("include 'curfew.conf'\n")
    return password, data
