"""A transaction whose queries are done when they return: the same queries as everywhere, without the way to a thread.

The driver of the asynchronous engine sends every call to its connection's thread and waits for it, some four times for
one query. That is nothing for a query and most of the time for a hundred of them, so what makes many runs in a thread
as a whole (`Store.write_as_one`), on a connection that does what it is asked at once.
"""

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

Answer = TypeVar("Answer")


class Direct:
    """As much of SQLAlchemy's AsyncConnection as the queries use. Awaiting one of its calls never waits."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    @property
    def dialect(self) -> sa.Dialect:
        """What the database speaks."""
        return self._connection.dialect

    async def execute(
        self,
        statement: sa.Executable,
        parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> sa.CursorResult[Any]:
        """Execute it."""
        return self._connection.execute(statement, parameters)

    async def scalar(self, statement: sa.Executable) -> Any:  # noqa: ANN401 as SQLAlchemy has it
        """The first value of the first row, None where there is no row."""
        return self._connection.scalar(statement)

    async def scalars(self, statement: sa.Executable) -> sa.ScalarResult[Any]:
        """The first value of each row."""
        return self._connection.scalars(statement)

    async def exec_driver_sql(self, statement: str, parameters: Any = None) -> sa.CursorResult[Any]:  # noqa: ANN401 as SQLAlchemy has it
        """Execute the driver's own text."""
        return self._connection.exec_driver_sql(statement, parameters)


def finished(work: Coroutine[Any, Any, Answer]) -> Answer:
    """What `work` gives, which waits for nothing but queries on a `Direct`."""
    try:
        work.send(None)
    except StopIteration as done:
        answer: Answer = done.value
        return answer
    work.close()
    raise RuntimeError("it waits for something else than a query, in a thread that has no event loop")
