"""The command `search`: statements of all sessions, by who, where, what and when."""

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import typer

from control.client import naming, screen
from control.client.account import Json
from control.client.answers import read
from control.client.api import LARGEST_PAGE, PAGE, Api, from_environment
from control.client.asking import INTERRUPTED, Limit, moment
from control.client.times import local_now, show_time
from control.durations import show_duration

SQL_SHOWN = 200
THINKING_S = 30.0
"""How long the service may take, on top of the usual: one search takes 5 s of its time."""


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """A statement that was found."""

    session: str
    statement: int | None = None
    kind: str = ""
    at: str | None = None
    person: str | None = None
    target: str | None = None
    database: str | None = None
    sql: str = ""
    size: int = 0
    classes: list[str] = []
    label: str | None = None
    rows: int | None = None
    duration_s: float | None = None
    sqlstate: str | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What one search has found; `next` is where it goes on, even where it has found nothing."""

    items: list[Any]
    next: str | None = None
    behind: int = 0


def _moment(text: str) -> str:
    return moment(text).isoformat()


Moment = Annotated[
    str | None,
    typer.Option(parser=_moment, metavar="TIME", help="2h (ago), today, yesterday, 2026-11-22, 2026-11-22T14:05."),
]


def search(
    *,
    text: Annotated[
        str | None, typer.Argument(help="In the SQL or in a parameter's value, in any case; 3 characters at least.")
    ] = None,
    person: Annotated[str | None, typer.Option(help="Only this person's.")] = None,
    target: Annotated[str | None, typer.Option(help="Only on this target.")] = None,
    session: Annotated[str | None, typer.Option(help="Only in this session (or the beginning of its id).")] = None,
    class_: Annotated[
        str | None, typer.Option("--class", help="Only these, by PostgreSQL's command tag: UPDATE, 'DROP TABLE'.")
    ] = None,
    table: Annotated[str | None, typer.Option(help="That name this table: orders, sales.orders.")] = None,
    written: Annotated[str | None, typer.Option(help="That change this table.", metavar="TABLE")] = None,
    function: Annotated[str | None, typer.Option(help="That call this function.")] = None,
    label: Annotated[str | None, typer.Option(help="What is not fully known: unparsed, crashed, long, ...")] = None,
    sqlstate: Annotated[str | None, typer.Option(help="That failed so: 42P01, or all of the class 42.")] = None,
    rows_over: Annotated[int | None, typer.Option(min=0, metavar="N", help="With more than so many rows.")] = None,
    since: Moment = None,
    until: Moment = None,
    json: Json = False,
    limit: Limit = PAGE,
) -> None:
    """Find statements, the newest first: yours, or everybody's if you audit."""
    query: dict[str, str | float | None] = {
        "text": text,
        "person": person,
        "target": target,
        "class": class_,
        "table": table,
        "written": written,
        "function": function,
        "label": label,
        "sqlstate": None if sqlstate is None else sqlstate.upper(),
        "rows_over": rows_over,
        "since": since,
        "until": until,
    }
    with from_environment() as api:
        if session is not None:
            query["session"] = str(naming.find(api, "sessions", session)["id"])
        found = _Search(api, query, limit)
        try:
            answer = found.run()
        except KeyboardInterrupt:
            answer = found.so_far()
    if json:
        screen.dump(msgspec.to_builtins(answer))
    else:
        _show(answer)
    if found.stopped:
        screen.note("stopped: further back there may be more")
        raise typer.Exit(INTERRUPTED)


class _Search:
    """One search, of as many requests as it takes. What there is can be had at any time."""

    def __init__(self, api: Api, query: dict[str, str | float | None], limit: int) -> None:
        self._get: Callable[..., Any] = api.get
        self._query = query
        self._limit = limit
        self._items: list[Any] = []
        self._next: str | None = None
        self._behind = 0
        self.stopped = False

    def run(self) -> Answer:
        """Go on until there is enough, or nothing left."""
        while True:
            most = min(LARGEST_PAGE, self._limit - len(self._items))
            asked = self._query | {"limit": most, "after": self._next}
            part = read(Answer, self._get("/v1/search", patience_s=THINKING_S, **asked))
            self._behind = self._behind if self._next is not None else part.behind
            self._items += part.items
            stuck = part.next == self._next
            self._next = part.next
            if part.next is None or stuck or len(self._items) >= self._limit:
                return self._answer()
            if len(part.items) < most:
                screen.note("looking further back; Ctrl-C shows what there is")

    def so_far(self) -> Answer:
        """What there is, where somebody does not want to wait."""
        self.stopped = True
        return self._answer()

    def _answer(self) -> Answer:
        return Answer(items=self._items, next=self._next, behind=self._behind)


def _show(answer: Answer) -> None:
    now = local_now()
    rows = [
        (
            one.session,
            one.kind if one.statement is None else f"#{one.statement}",
            show_time(one.at, now=now),
            one.person,
            f"{one.target or '-'}/{one.database or '-'}",
            _what(one),
            "-" if one.rows is None else str(one.rows),
            "-" if one.duration_s is None else show_duration(one.duration_s),
            one.sqlstate,
            _sql(one),
        )
        for one in read(list[Statement], answer.items)
    ]
    columns = ("SESSION", "NUMBER", "AT", "PERSON", "DATABASE", "CLASS", "ROWS", "TIME", "ERROR", "SQL")
    screen.table(columns, rows, empty="no such statements")
    if rows:
        screen.note("`curfew replay SESSION` shows what was around one")
    if answer.next is not None:
        screen.note(f"there are more than these {len(rows)}; --limit shows them")
    if answer.behind:
        screen.note(f"the newest {answer.behind} records cannot be searched yet")


def _what(one: Statement) -> str:
    known = ", ".join(one.classes) or "-"
    return f"{known} ({one.label})" if one.label else known


def _sql(one: Statement) -> str:
    """The statement on one line, its beginning where it is long: a replay has all of it."""
    line = " ".join(one.sql.split(None))
    more = one.size - len(one.sql) + max(0, len(line) - SQL_SHOWN)
    return f"{line[:SQL_SHOWN]} (and {more} more)" if more else line
