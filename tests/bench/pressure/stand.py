"""What the measurements run against: one PostgreSQL with its tables, and proxies in front of it, each a new process.

A way is encrypted on both legs or on none, so that what TLS costs in memory is seen in one piece.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import START_S, Proxy
from tests.harness.waiting import eventually_sync
from tests.harness.wire import Wire

DATABASE = "pressure"
TOKEN_LASTS_S = 86_400
LINE = "x" * 999
OK = 200
_HBA = ("host all direct 127.0.0.1/32 password", "host all all 127.0.0.1/32 scram-sha-256")
_SETTINGS = {"shared_buffers": "'128MB'"}
_TABLES = """
CREATE TABLE sink (line text);
CREATE TABLE stuck (line text);
CREATE FUNCTION wait_for_the_lock() RETURNS trigger LANGUAGE plpgsql
    AS 'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END';
CREATE TRIGGER stuck BEFORE INSERT ON stuck FOR EACH ROW EXECUTE FUNCTION wait_for_the_lock();
CREATE ROLE direct LOGIN PASSWORD 'direct';
GRANT ALL ON sink, stuck TO PUBLIC;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """A PostgreSQL, and how to get proxies in front of it."""

    cluster: Cluster
    folder: Path
    stack: ExitStack
    made: list[Proxy] = field(default_factory=list)
    core: int | None = None
    """The processor that proxies have to themselves."""

    @contextmanager
    def proxy(
        self,
        *,
        tls: bool,
        target: Mapping[str, Any] | None = None,
        **options: Any,  # noqa: ANN401 changes to [proxy]
    ) -> Iterator["Way"]:
        """A proxy of the caller's own; `target` changes its target."""
        clear: dict[str, Any] = {"host": "127.0.0.1", "sslmode": "disable"}
        self.made.append(
            Proxy(
                cluster=self.cluster,
                ca=self.cluster.authority,
                folder=self.folder / f"proxy{len(self.made)}",
                options={"plaintext": "loopback", **options},
                target={**({} if tls else clear), **(target or {})},
                database=DATABASE,
            )
        )
        with self.made[-1] as started:
            assert started.process is not None
            if self.core is not None:
                _pin(started.process.pid, self.core)
            eventually_sync(lambda: started.ops("/readyz")[0] == OK, within=START_S, what="the keeper's connection")
            yield Way(proxy=started, tls=tls, token=started.token(lasts_s=TOKEN_LASTS_S))


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A proxy, and whether its sessions are encrypted."""

    proxy: Proxy
    tls: bool
    token: str

    @property
    def name(self) -> str:
        """For the report."""
        return "TLS" if self.tls else "plain"

    async def session(self) -> Wire:
        """A session of one's own."""
        port = self.proxy.port
        wire = await (Wire.tls(port, self.proxy.ca.client_context()) if self.tls else Wire.plain(port))
        try:
            await wire.log_in(self.token)
        except BaseException:
            wire.cut()
            raise
        return wire

    async def past_the_proxy(self) -> Wire:
        """A session on PostgreSQL itself, which only PostgreSQL and the machine can keep waiting."""
        wire = await Wire.plain(self.proxy.cluster.port)
        await wire.log_in("direct", ("user", "direct"), ("database", DATABASE))
        return wire


def _pin(pid: int, core: int) -> None:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


@contextmanager
def ready(*, own_core: bool = False) -> Iterator[Stand]:
    """The stand, for as long as it is needed. `own_core`: PostgreSQL and the clients leave a processor to the proxy.

    So it is where the proxy is on a machine of its own; else what is measured is the scheduler's patience, too.
    """
    with ExitStack() as stack:
        core = None
        if own_core:
            usable = os.sched_getaffinity(0)
            core = max(usable)
            stack.callback(os.sched_setaffinity, 0, usable)
            os.sched_setaffinity(0, usable - {core})  # all that is started from here on inherits it
        folder = Path(tempfile.mkdtemp(prefix="curfew-pressure-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        cluster = stack.enter_context(Cluster(Authority(folder), hba=_HBA, settings=_SETTINGS))
        roles.install(cluster)
        roles.create_database(cluster, DATABASE)
        cluster.psql(_TABLES, database=DATABASE)
        yield Stand(cluster=cluster, folder=folder, stack=stack, core=core)
