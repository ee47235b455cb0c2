"""`/v1/search`: the statements of all sessions, by who, where, what and when."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, Field

from control.api.access import After
from control.api.callers import Caller, Office
from control.api.people import Limit
from control.api.problems import unwrap
from control.api.shapes import EPOCH, MICROSECOND, Time, When
from control.operations import search
from control.times import SECOND

router = APIRouter(prefix="/v1", tags=["evidence"])

TOO_BROAD = (
    "not all was looked through in the time: go on with `next`, or narrow it by a time, a person, a table or a class"
)

Name = Annotated[str | None, Query(min_length=1, max_length=512)]
Rows = Annotated[int | None, Query(ge=0, lt=2**63)]


class TableOut(BaseModel):
    """A table (or what is used like one) in a statement, as it was written there."""

    name: str
    written: bool = Field(description="Whether the statement changes it, its rows or what it is.")


class StatementOut(BaseModel):
    """A statement that was found. Its session's timeline and records have all of it."""

    session: str
    statement: int | None = Field(description="Its number in the session; none for what was only prepared.")
    seq: int = Field(description="The number of the session's record that says it.")
    kind: str
    at: Time
    person: str | None
    target: str | None
    database: str
    sql: str = Field(description="Its beginning, where it is long.")
    size: int = Field(description="Its length in characters; 0 where the text is too long to be looked at.")
    masked: bool
    class_: str | None = Field(serialization_alias="class", description="Its command tag; the first one of several.")
    classes: list[str]
    tables: list[TableOut]
    functions: list[str]
    label: str | None = Field(description="Why less is known of it than its text says.")
    rows: int | None
    duration_s: float | None
    sqlstate: str | None

    @classmethod
    def of(cls, hit: search.Hit) -> "StatementOut":
        """The statement as it is shown."""
        entry, session = hit.entry, hit.session
        names = search.names_of(entry)
        return cls(
            session=session.id,
            statement=entry.statement,
            seq=hit.seq,
            kind=entry.kind,
            at=entry.at,  # type: ignore[arg-type] # the validator takes nanoseconds
            person=session.person,
            target=session.target,
            database=session.database,
            sql=hit.sql,
            size=hit.size,
            masked=hit.masked,
            class_=entry.class_,
            classes=names.classes,
            tables=[TableOut(name=name, written=written) for name, written in names.tables],
            functions=names.functions,
            label=names.label,
            rows=entry.rows,
            duration_s=None if entry.duration is None else entry.duration / SECOND,
            sqlstate=entry.sqlstate,
        )


class SearchOut(BaseModel):
    """What was found. `next`, where it is not null, is the `after` of what comes behind it, even where this is empty.

    A search goes on for seconds and no longer: then it answers with what it has.
    """

    items: list[StatementOut]
    next: str | None
    behind: int = Field(description="The newest records, so many, that cannot be found yet.")
    hint: str | None = Field(description="Where not all could be looked through in the time: what to do.")


def _nanoseconds(when: AwareDatetime | None) -> int | None:
    return None if when is None else (when - EPOCH) // MICROSECOND * 1_000


@router.get("/search")
async def search_statements(
    services: Office,
    caller: Caller,
    *,
    text: Annotated[str | None, Query(description="In the SQL or in a parameter's value, in any case.")] = None,
    person: Name = None,
    target: Name = None,
    session: Name = None,
    class_: Annotated[str | None, Query(alias="class", max_length=64, description="As `CREATE TABLE`.")] = None,
    table: Annotated[str | None, Query(max_length=512, description="As `orders` or `sales.orders`.")] = None,
    written: Annotated[str | None, Query(max_length=512, description="A table that is changed.")] = None,
    function: Name = None,
    label: Name = None,
    sqlstate: Annotated[str | None, Query(description="As `42P01`, or its class, as `42`.")] = None,
    rows_over: Rows = None,
    since: When | None = None,
    until: When | None = None,
    after: After = None,
    limit: Limit = 100,
) -> SearchOut:
    """The statements that fit all that is asked, the newest in the log first: yours, or everybody's for auditors."""
    query = search.Query(
        text=text,
        person=person,
        target=target,
        session=session,
        class_=class_,
        table=table,
        written=written,
        function=function,
        label=label,
        sqlstate=sqlstate,
        rows_over=rows_over,
        since=_nanoseconds(since),
        until=_nanoseconds(until),
    )
    found = unwrap(await search.search(services, query, asker=caller, before=after, limit=limit))
    following = None if found.before is None else str(found.before)
    items = [StatementOut.of(hit) for hit in found.hits]
    hint = TOO_BROAD if following is not None and len(items) < limit else None
    return SearchOut(items=items, next=following, behind=found.behind, hint=hint)
