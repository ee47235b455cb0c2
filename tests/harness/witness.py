"""Two accounts of the same sessions, PostgreSQL's log and Curfew's journal, and where they differ.

The only place that holds one against the other: `tests.witness`, `tests.suites` and `tests.clients` use it. PostgreSQL
writes a csvlog (`tests.harness.serverlog`) with `log_statement = all` and parameters of any length. A session of one is
the session of the other where pid and start of the backend are the same; its statements are compared in order.

What PostgreSQL does not log, and what a record must say then (`Recorded.executed`, `compare`):

- What it skipped up to a Sync was never executed: its `statement.end` says `skipped`.
- What it refused before it came to run (a syntax error; a value that is none of its type; a portal that is not there)
  is an ERROR in the log without a line for the statement: the record has the same SQLSTATE. Where the message that
  was refused is no statement (a Parse), the first statement that it kept from running has it.
- An Execute of an empty text runs nothing, and is not logged. The record has no command tag, no text but comments.

What SQL has prepared (PREPARE) or declared (a cursor), and the protocol then executes, is logged with the text that
made it; the record of the execution has its name, and that text is on record before (`_named`).

Everything else that is on record was logged, and everything that was logged is on record. A function call has no text
in either (fast path): PostgreSQL logs its OID, which is on record.
"""

import base64
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from proxy.contract.record import (
    AnyRecord,
    Parameter,
    Ran,
    SessionStart,
    StatementEnd,
    StatementStart,
)
from proxy.wire.secret_values import MASK
from tests.harness.serverlog import LogLine

Values = tuple[str | None, ...]

_SHOWN = 200
_EXECUTE = "execute "
_FETCH = "fetch from "
_FUNCTION = re.compile(r'fastpath function call: ".*" \(OID (\d+)\)', re.DOTALL)
_BEFORE_EXECUTION = ("PARSE", "BIND")
_FASTPATH = "<FASTPATH>"
_NO_CALL = ("42883", "25P02")
"""There is no such function, or the transaction has failed: the call was not even logged."""
_AT_COMMIT = ("23", "40")
"""Classes of what a Sync can fail with: a constraint that was deferred, a transaction that could not be serialised."""
_NOTHING = re.compile(r"(?:[\s;]|--[^\n]*|/\*.*?\*/)*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """What PostgreSQL says of one statement."""

    kind: str
    """As a record's."""
    text: str
    values: Values = ()
    name: str = ""
    """Of the prepared statement, with `/PORTAL` behind it where that has a name."""
    function: int | None = None
    sqlstate: str | None = None
    """The error that it ended in, where errors are logged."""
    refused: bool = False
    """An error and nothing else: this was never executed."""

    def __str__(self) -> str:
        return _shown(self.kind, self.text or str(self.function or ""), self.sqlstate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What the journal says of one statement: what it ran, where that is not what its start says."""

    kind: str
    text: str
    parameters: tuple[Parameter, ...] = ()
    name: str | None = None
    function: int | None = None
    masked: bool = False
    sqlstate: str | None = None
    skipped: bool = False
    tags: tuple[str, ...] = ()
    rows: int = 0
    suspended: bool = False
    ended: bool = True
    """False where its session ended first."""
    idle: bool = False
    """Whether no transaction was open at its end."""
    round: int = 0
    """The same for those that were under way together."""

    @property
    def executed(self) -> bool:
        """Whether PostgreSQL must have logged it, or an error instead."""
        empty = self.kind == "execute" and not self.tags and not self.suspended and self.sqlstate is None
        return not self.skipped and not (empty and self.ended and _NOTHING.fullmatch(self.text))

    def __str__(self) -> str:
        return _shown(self.kind, self.text or str(self.function or ""), self.sqlstate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two accounts of one session."""

    pairs: tuple[tuple[Logged, Recorded], ...]
    unrecorded: tuple[Logged, ...]
    """PostgreSQL executed this, and it is not on record in this place."""
    unexecuted: tuple[Recorded, ...]
    """This is on record, and PostgreSQL knows nothing of it."""

    def __str__(self) -> str:
        missing = [f"executed, not on record: {one}" for one in self.unrecorded]
        return "\n".join(missing + [f"on record, not executed: {one}" for one in self.unexecuted])


def plainly(logged: Logged, recorded: Recorded) -> bool:
    """Whether they are the same statement with the same outcome: the same text but for what is masked."""
    return (
        (logged.kind, logged.function, logged.sqlstate) == (recorded.kind, recorded.function, recorded.sqlstate)
        and _same_name(logged, recorded)
        and same_text(logged.text, recorded)
    )


def same_text(text: str, recorded: Recorded) -> bool:
    """Whether `text` is what was recorded, with anything in the place of a secret."""
    if not recorded.masked:
        return text == recorded.text
    pattern = ".+".join(map(re.escape, recorded.text.split(MASK)))
    return re.fullmatch(pattern, text, re.DOTALL) is not None


def _same_name(logged: Logged, recorded: Recorded) -> bool:
    if logged.kind != "execute":
        return True
    name = recorded.name or "<unnamed>"
    return logged.name == name or logged.name.startswith(f"{name}/")


def compare(
    logged: Iterable[Logged], recorded: Iterable[Recorded], same: Callable[[Logged, Recorded], bool] = plainly
) -> Comparison:
    """Go through both in order."""
    pairs: list[tuple[Logged, Recorded]] = []
    unrecorded: list[Logged] = []
    unexecuted: list[Recorded] = []
    statements = [*recorded]
    left = [one for one in statements if one.executed]
    texts = {one.text for one in statements}
    at = 0
    for one in logged:
        if one.refused:
            at += at < len(left) and left[at].sqlstate == one.sqlstate
            continue
        by_sql = one.text in texts
        places = (
            place for place in range(at, len(left)) if same(one, left[place]) or (by_sql and _named(one, left[place]))
        )
        found = next(places, None)
        if found is None:
            unrecorded.append(one)
            continue
        unexecuted += left[at:found]
        pairs.append((one, left[found]))
        at = found + 1
    return Comparison(pairs=tuple(pairs), unrecorded=tuple(unrecorded), unexecuted=(*unexecuted, *left[at:]))


def _named(logged: Logged, recorded: Recorded) -> bool:
    """Whether the record shows by its name alone what SQL has prepared or declared; the text is on record before."""
    name = recorded.name or ""
    names = (name, f"<unnamed>/{name.removeprefix('portal ')}")
    return not recorded.text and logged.name in names and logged.sqlstate == recorded.sqlstate


# PostgreSQL's account.


def read_log(lines: Iterable[LogLine]) -> dict[str, list[Logged]]:
    """What was executed, by session and in order."""
    sessions: dict[str, list[Logged]] = {}
    for line in lines:
        statements = sessions.setdefault(line.session, [])
        if line.severity == "LOG" and (one := _executed(line)) is not None:
            statements.append(one)
        elif line.severity in ("ERROR", "FATAL"):
            _fail(statements, line)
    return sessions


def _executed(line: LogLine) -> Logged | None:
    if line.context:  # RAISE LOG in somebody's function: not the server's own words
        return None
    if (function := _FUNCTION.fullmatch(line.message)) is not None:
        return Logged(kind="function", text="", function=int(function[1]))
    if line.statement is None:
        return None
    if not line.message.startswith(_EXECUTE):
        return Logged(kind="query", text=line.statement)
    name = line.message.removeprefix(_EXECUTE).partition(": ")[0].removeprefix(_FETCH)
    return Logged(kind="execute", text=line.statement, values=line.parameters, name=name)


def _fail(statements: list[Logged], line: LogLine) -> None:
    """An error is of the statement that was logged last, or of one that never came to be."""
    last = statements[-1] if statements else None
    if last is not None and last.sqlstate is None and _is_of(last, line):
        statements[-1] = replace(last, sqlstate=line.sqlstate)
    else:
        statements.append(Logged(kind="error", text=line.query, sqlstate=line.sqlstate, refused=True))


def _is_of(last: Logged, line: LogLine) -> bool:
    if line.command == _FASTPATH:
        return last.kind == "function" and line.sqlstate not in _NO_CALL
    if not line.query:  # A Sync that fails to commit; or a name that is not there, and the like.
        return last.kind == "execute" and line.sqlstate[:2] in _AT_COMMIT
    return line.query == last.text and line.command not in _BEFORE_EXECUTION


# Our own.


@dataclass(slots=True)
class Session:
    """One session of the journal."""

    start: SessionStart
    statements: dict[int, Recorded] = field(default_factory=dict)
    rounds: int = 0
    running: int = 0

    @property
    def key(self) -> str:
        """The session's id in PostgreSQL's log (`%c`): the backend's start, in whole seconds, and its pid."""
        return f"{int(datetime.fromisoformat(self.start.backend_start).timestamp()):x}.{self.start.backend_pid:x}"


def read_journal(records: Iterable[AnyRecord], encodings: Callable[[str], str] = lambda _: "utf-8") -> list[Session]:
    """The sessions of these records, with their statements in order. `encodings`: the client's, by session."""
    sessions: dict[str, Session] = {}
    for one in records:
        if isinstance(one, SessionStart):
            sessions[one.session] = Session(one)
        elif isinstance(one, StatementStart):
            encoding, session = encodings(one.session), sessions[one.session]
            session.rounds += not session.running
            session.running += 1
            session.statements[one.statement] = Recorded(
                kind=one.kind,
                text=text_of(one, encoding),
                parameters=tuple(one.parameters or ()),
                name=one.name,
                function=one.function,
                masked=one.masked,
                ended=False,
                round=session.rounds,
            )
        elif isinstance(one, StatementEnd):
            statements = sessions[one.session].statements
            sessions[one.session].running -= 1
            statements[one.statement] = _ended(statements[one.statement], one, encodings(one.session))
    return [*sessions.values()]


def text_of(one: StatementStart | Ran, encoding: str = "utf-8") -> str:
    """The SQL of a record whose client spoke this encoding."""
    return base64.b64decode(one.sql_base64).decode(encoding, "backslashreplace") if one.sql_base64 else one.sql


def _ended(started: Recorded, end: StatementEnd, encoding: str) -> Recorded:
    ran = end.ran
    return Recorded(
        kind=started.kind,
        text=started.text if ran is None else text_of(ran, encoding),
        parameters=started.parameters if ran is None else tuple(ran.parameters or ()),
        name=started.name if ran is None else ran.name,
        function=started.function,
        masked=started.masked if ran is None else ran.masked,
        sqlstate=end.sqlstate,
        skipped=end.skipped,
        tags=tuple(end.tags),
        rows=end.rows,
        suspended=end.suspended,
        ended=end.state is not None,
        idle=end.state == "I",
        round=started.round,
    )


def _shown(kind: str, text: str, sqlstate: str | None) -> str:
    return f"{kind} {text[:_SHOWN]!r}" + (f", which failed with {sqlstate}" if sqlstate else "")


# Values.


def doubtful(pairs: Iterable[tuple[Logged, Recorded]]) -> Iterator[tuple[Logged, Recorded]]:
    """The pairs whose values are not the same texts: a server has to say whether they are the same values."""
    for logged, recorded in pairs:
        if len(logged.values) != len(recorded.parameters) or not all(
            map(_same_value, logged.values, recorded.parameters)
        ):
            yield logged, recorded


def _same_value(logged: str | None, recorded: Parameter) -> bool:
    if logged is None:
        return recorded.value is None and recorded.base64 is None
    return recorded.base64 is None and recorded.value is not None and str(recorded.value) == logged
