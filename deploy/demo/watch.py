"""Looking at PostgreSQL past every proxy, as its superuser: what runs, when it is gone, and what has changed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from deploy.demo.stage import Stage
from tests.harness.waiting import eventually_sync

WITHIN_S = 20.0


class Watch:
    """The superuser's own connection to the shop's database."""

    def __init__(self, connection: "psycopg.Connection[tuple[Any, ...]]") -> None:
        self._connection = connection

    def value(self, sql: str, *parameters: object) -> Any:  # noqa: ANN401 whatever the query returns
        """The first column of the first row, None where there is no row."""
        row = self._connection.execute(sql, parameters).fetchone()
        return None if row is None else row[0]

    def running(self, application: str) -> int:
        """The process id of the backend that runs a statement for this application, once one does."""
        sql = "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND state = 'active'"
        return int(eventually_sync(lambda: self.value(sql, application), within=WITHIN_S, what=f"{application} runs"))

    def writing(self, application: str) -> int:
        """The same, once its transaction has changed something."""
        sql = "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND backend_xid IS NOT NULL"
        return int(eventually_sync(lambda: self.value(sql, application), within=WITHIN_S, what=f"{application} writes"))

    def gone(self, pid: int) -> float:
        """The moment at which this backend is no longer to be seen."""
        sql = "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = %s"
        eventually_sync(lambda: self.value(sql, pid), within=WITHIN_S, what=f"the end of backend {pid}")
        return time.time()


@contextmanager
def watching(stage: Stage) -> Iterator[Watch]:
    """A watch while the stage stands."""
    with psycopg.connect(stage.postgres.dsn(database="orders"), autocommit=True) as connection:
        yield Watch(connection)
