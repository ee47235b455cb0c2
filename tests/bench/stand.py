"""What a bench runs against: one PostgreSQL with its data, and every way to it, all ready at the same time.

Plain and encrypted clients share the same processes; the way from a proxy to PostgreSQL is never encrypted, for both
proxies alike, so that a case over TLS tells what TLS to the client costs.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from tests.bench import pgbouncer
from tests.bench.cases import Amount, load_data
from tests.bench.ways import CURFEW, DIRECT, HOST, PGBOUNCER, Way
from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy

DATABASE = "bench"
TOKEN_LASTS_S = 86_400
_HBA = f"host all all {HOST}/32 scram-sha-256"
_SETTINGS = {"shared_buffers": "'256MB'", "max_wal_size": "'4GB'"}


@contextmanager
def ready(amount: Amount, *, profile: Path | None = None) -> Iterator[list[Way]]:
    """The ways in the order in which they take turns; PgBouncer's only where it is installed.

    With `profile`, the proxy runs under cProfile and writes its statistics there when it ends.
    """
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="curfew-bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        cluster, direct = stack.enter_context(furnished(folder, amount))
        ways = [direct]
        if program := pgbouncer.find():
            ways.append(stack.enter_context(_through_pgbouncer(program, cluster, direct)))
        ways.append(stack.enter_context(_profiled_or_not(folder / "proxy", cluster, profile)))
        yield ways


@contextmanager
def furnished(folder: Path, amount: Amount) -> Iterator[tuple[Cluster, Way]]:
    """PostgreSQL with the data, and the direct way to it."""
    authority = Authority(folder)
    with Cluster(authority, hba=[_HBA], settings=_SETTINGS) as cluster:
        roles.install(cluster)
        roles.create_database(cluster, DATABASE)
        direct = Way(
            name=DIRECT,
            port=cluster.port,
            user=roles.APP.user,
            password=roles.APP.password,
            database=DATABASE,
            authority=authority.file,
        )
        load_data(direct, amount)
        yield cluster, direct


@contextmanager
def _through_pgbouncer(program: Path, cluster: Cluster, direct: Way) -> Iterator[Way]:
    started = pgbouncer.running(program, cluster, cluster.authority, user=direct.user)
    with started as (port, pid):
        yield Way(
            name=PGBOUNCER,
            port=port,
            user=direct.user,
            password=direct.password,
            database=direct.database,
            authority=direct.authority,
            pid=pid,
        )


def _profiled_or_not(folder: Path, cluster: Cluster, profile: Path | None) -> AbstractContextManager[Way]:
    if profile is None:
        return through_curfew(folder, cluster)
    environment = {"CURFEW_BENCH_PROFILE": str(profile)}
    return through_curfew(folder, cluster, launcher="tests.bench.launcher", environment=environment)


@contextmanager
def through_curfew(
    folder: Path,
    cluster: Cluster,
    *,
    name: str = CURFEW,
    target: Mapping[str, str] | None = None,
    launcher: str = "proxy.cli",
    environment: Mapping[str, str] | None = None,
) -> Iterator[Way]:
    """By way of a proxy of its own, with these changes to its target, started as the module `launcher`."""
    proxy = Proxy(
        cluster=cluster,
        ca=cluster.authority,
        folder=folder,
        options={"plaintext": "loopback"},
        target={"host": HOST, "sslmode": "disable", **(target or {})},
        database=DATABASE,
        environment=environment or {},
        launcher=launcher,
    )
    with proxy:
        assert proxy.process is not None
        yield Way(
            name=name,
            port=proxy.port,
            user="dba1",
            password=proxy.token(lasts_s=TOKEN_LASTS_S),
            database="orders",
            authority=cluster.authority.file,
            pid=proxy.process.pid,
        )
