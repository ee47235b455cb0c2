"""What the clients are witnessed on: a PostgreSQL that logs everything and counts, a proxy, databases."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.clients.stand import Stand
from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.witness import Logged, Recorded, compare, doubtful
from tests.witness import statistics
from tests.witness.values import Connection, different

SETTINGS = {"log_parameter_max_length": "-1", "log_parameter_max_length_on_error": "-1"}
_STATISTICS = {
    "shared_preload_libraries": "'pg_stat_statements'",
    "pg_stat_statements.max": "50000",
    "pg_stat_statements.track": "'top'",
}
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Both accounts of some sessions, held against each other."""

    sessions: int = 0
    logged: int = 0
    """Statements that PostgreSQL logged."""
    records: int = 0
    refused: int = 0
    """Those on record that it skipped, or refused before it executed them, as the records say too."""
    values: int = 0
    counted: int | None = None
    """Executions that pg_stat_statements counted; None where it is not there or cannot be compared."""
    differences: tuple[str, ...] = ()

    def __add__(self, other: "Verdict") -> "Verdict":
        return Verdict(
            sessions=self.sessions + other.sessions,
            logged=self.logged + other.logged,
            records=self.records + other.records,
            refused=self.refused + other.refused,
            values=self.values + other.values,
            counted=other.counted if self.counted is None else self.counted,
            differences=self.differences + other.differences,
        )


def judge(logged: Sequence[Logged], recorded: Sequence[Recorded], server: Connection) -> Verdict:
    """Hold both accounts of a session against each other."""
    comparison = compare(logged, recorded)
    executed = [one for one in logged if not one.refused]
    return Verdict(
        sessions=1,
        logged=len(executed),
        records=len(recorded),
        refused=len(recorded) - len(comparison.pairs) - len(comparison.unexecuted),
        values=sum(len(one.values) for one in executed),
        differences=(*str(comparison).splitlines(), *different(doubtful(comparison.pairs), server)),
    )


@contextmanager
def witnessed(authority: Authority, folder: Path, programs: Path) -> Iterator["Place"]:
    """A server of these programs, and a proxy in front of it."""
    has_statistics = any((programs.parent / "lib").rglob("pg_stat_statements.so"))
    settings = {**SETTINGS, **(_STATISTICS if has_statistics else {})}
    with Cluster(authority, settings=settings, log_statements=True, programs=programs) as cluster:
        roles.install(cluster)
        if has_statistics:
            cluster.psql("CREATE EXTENSION pg_stat_statements")
        with Proxy(cluster=cluster, ca=authority, folder=folder) as proxy:
            yield Place(cluster=cluster, proxy=proxy, programs=programs, statistics=has_statistics)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where databases for clients are."""

    cluster: Cluster
    proxy: Proxy
    programs: Path
    statistics: bool

    @contextmanager
    def stand(self) -> Iterator[Stand]:
        """A database for a client, and its grant."""
        database, grant = f"witnessed_{next(_numbers)}", new_grant_id()
        roles.create_database(self.cluster, database)
        try:
            yield Stand(
                cluster=self.cluster,
                proxy=self.proxy,
                database=database,
                grant=grant,
                token=self.proxy.token(id=grant, lasts_s=3_600),
                programs=self.programs,
            )
        finally:
            roles.drop_database(self.cluster, database)

    async def judge(self, stand: Stand) -> Verdict:
        """Hold both accounts of what was done in the stand's database against each other."""
        logged, recorded = await stand.accounts()
        lost = [f"session {key} is not on record" for key in logged.keys() - recorded.keys()]
        total = Verdict(differences=tuple(lost))
        with psycopg.connect(self.cluster.dsn(database=stand.database), autocommit=True) as server:
            for key, statements in recorded.items():
                total += judge(logged.get(key, ()), statements, server)
        if self.statistics:
            total += await self._count(stand.database, [*recorded.values()])
        return total

    async def _count(self, database: str, sessions: Sequence[Sequence[Recorded]]) -> Verdict:
        rows = await self.cluster.sql(statistics.COUNTED, database, roles.APP.user)
        server, (records, doubtful) = statistics.counted(rows), statistics.on_record(sessions)
        return Verdict(
            counted=sum(one.calls for key, one in server.items() if key not in doubtful),
            differences=tuple(statistics.differences(server, records, doubtful)),
        )
