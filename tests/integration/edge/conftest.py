"""A proxy that listens on a unix socket too."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy


def on_unix(proxy: Proxy, folder: Path) -> Proxy:
    """The same, listening in `folder` too."""
    listen = [f"127.0.0.1:{proxy.port}", f"{folder}:{proxy.port}"]
    proxy.options = {"listen": listen, **proxy.options}
    return proxy


@pytest.fixture(scope="session")
def unix_proxy(
    postgres: Cluster, ca: Authority, sockets: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """A proxy with a unix socket, as the defaults have it."""
    made = Proxy(cluster=postgres, ca=ca, folder=tmp_path_factory.mktemp("unix"))
    with on_unix(made, sockets) as proxy:
        yield proxy


@pytest.fixture
def path(unix_proxy: Proxy, sockets: Path) -> str:
    """Its socket."""
    return f"{sockets}/.s.PGSQL.{unix_proxy.port}"
