"""Targets and profiles as a configuration would have them, for a Cluster, and a login without a driver."""

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from proxy.config import read_secret
from proxy.contract.settings import AccessProfile, Host, Keeper, Secret, Target
from proxy.dial import Server
from proxy.upstream import Connected, Dialler
from proxy.wire import messages
from tests.harness import roles
from tests.harness.postgres import Cluster
from tests.harness.roles import Login


def profile_of(login: Login, folder: Path) -> AccessProfile:
    """A profile with the login's password in a file below `folder`."""
    return AccessProfile(user=login.user, password=secret_of(login.password, folder, login.user))


def secret_of(password: str, folder: Path, name: str) -> Secret:
    """The password in a file of its own."""
    path = folder / f"{name}.secret"
    path.touch(mode=0o600)
    path.write_text(password)
    return Secret(file=str(path))


def target_of(cluster: Cluster, folder: Path, *, keeper: Login = roles.KEEPER, **changed: Any) -> Target:  # noqa: ANN401 any field of Target
    """The cluster as a target: verify-full, the keeper of `tests.harness.roles`, APP and READONLY as profiles."""
    target = Target(
        host=cluster.host,
        port=cluster.port,
        database="postgres",
        ca_file=str(cluster.authority.file),
        connect_timeout_s=10.0,
        keeper=Keeper(user=keeper.user, password=secret_of(keeper.password, folder, keeper.user)),
        access={"app": profile_of(roles.APP, folder), "readonly": profile_of(roles.READONLY, folder)},
    )
    return msgspec.structs.replace(target, **changed)


def dialler_of(cluster: Cluster, folder: Path, **changed: Any) -> Dialler:  # noqa: ANN401 as target_of
    """A dialler for it."""
    return Dialler("orders", target_of(cluster, folder, **changed), read_secret=read_secret)


def server_at(port: int, tls: ssl.SSLContext | None = None) -> Server:
    """A server on loopback, as a session that was connected to it would know it."""
    address = (socket.AF_INET, ("127.0.0.1", port))
    return Server(host=Host("127.0.0.1", port), address=address, tls=tls, direct=False)


def parameters(user: str, database: str = "postgres", **more: str) -> list[tuple[bytes, bytes]]:
    """Startup parameters as a session passes them."""
    named = {"user": user, "database": database, **more}
    return [(name.encode(), value.encode()) for name, value in named.items()]


@dataclass(slots=True)
class Raw:
    """A backend on the wire, without a driver."""

    connected: Connected

    @property
    def pid(self) -> int:
        """The backend's."""
        return self.connected.pid

    def send(self, sql: str) -> None:
        """Send a simple query; read nothing."""
        self.connected.leg.write(messages.query(sql))

    async def run(self, sql: str) -> list[tuple[int, bytes]]:
        """Send a simple query; everything the server says up to ReadyForQuery."""
        self.send(sql)
        said = [await self.read()]
        while said[-1][0] != ord("Z"):
            said.append(await self.read())
        return said

    async def read(self) -> tuple[int, bytes]:
        """The next message."""
        return await self.connected.leg.read(1_000_000)

    async def value(self, sql: str) -> str:
        """The first column of the one row that `sql` gives, as text."""
        row = next(body for kind, body in await self.run(sql) if kind == ord("D"))
        return row[6 : 6 + int.from_bytes(row[2:6])].decode()

    def close(self) -> None:
        """Let go of it."""
        self.connected.leg.transport.abort()


async def log_in(dialler: Dialler, profile: AccessProfile, database: str = "postgres", **more: str) -> Raw:
    """A backend for `profile`."""
    return Raw(await dialler.connect(profile, parameters(profile.login, database, **more)))
