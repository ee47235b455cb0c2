"""What became of each statement's transaction, from a session's records alone. Pure.

PostgreSQL has said it all: by its command tags (BEGIN, COMMIT, ROLLBACK, ...), by its errors, and by the letter of each
ReadyForQuery, which says whether a transaction is open. Texts are not asked: they can say anything, and a tag cannot be
forged. Only where a tag leaves several readings open (ROLLBACK may be to a savepoint) is the text looked at, for what
rules one of them out. What is not certain is "in doubt", never a guess:

* what was prepared for a two-phase commit (PREPARE TRANSACTION): any session may commit it, or nobody
* what was open when the session ended and its end does not say what became of it
* what a procedure, or a command that makes transactions of its own, may have committed before it failed

Statements come out as soon as their transaction is over. Nothing grows with a long transaction: of more than MOST open
statements the oldest are forgotten, and are never told.
"""

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from control.domain.commands import command
from control.evidence import savepoints
from control.evidence.savepoints import Command, Savepoints
from proxy.contract.record import AnyRecord, SessionEnd, SessionReaped, StatementEnd, StatementStart, TransactionState

MOST = 10_000

Outcome: TypeAlias = Literal["committed", "rolled back", "in doubt", "partly committed"]
"""The last one only of a statement that was several transactions: a Query with COMMIT and more in it."""
Fate: TypeAlias = Literal["committed", "rolled back", "in doubt"]

_ANYTHING = re.compile("")
_PROCEDURE = re.compile(r"commit|rollback|call|language", re.IGNORECASE)
_CONCURRENTLY = re.compile(r"concurrently|tablespace", re.IGNORECASE)
_UNKNOWN = re.compile(r"call|do|vacuum|analy[sz]e|cluster|reindex|concurrently|tablespace", re.IGNORECASE)
_SEVERAL: Mapping[str | None, re.Pattern[str]] = {
    "CALL": _ANYTHING,
    "DO": _PROCEDURE,
    **dict.fromkeys(("VACUUM", "ANALYZE", "CLUSTER", "REINDEX"), _ANYTHING),
    **dict.fromkeys(("CREATE", "DROP", "ALTER"), _CONCURRENTLY),
    None: _UNKNOWN,
}
"""Commands that may be several transactions, by their first word (None: not known), and what must be in the text then.

Keywords have one spelling: where it is not in a text, the keyword is not.
"""
_AT_ONCE = re.compile(r"database|tablespace|subscription|system|all|prepared", re.IGNORECASE)
"""The same of commands that are a transaction of their own: PostgreSQL commits them, and what was before, at once."""
_ALONE = ("CREATE", "DROP", "ALTER", "DISCARD", "COMMIT", "ROLLBACK")
_UNDOES = ("CALL", "DO", None)
_TO = re.compile("to", re.IGNORECASE)
_CHAIN = re.compile("chain", re.IGNORECASE)
_PREPARE = re.compile("prepare", re.IGNORECASE)
_CONTROL = frozenset(
    ("BEGIN", "START TRANSACTION", "COMMIT", "PREPARE TRANSACTION", "SAVEPOINT", "RELEASE", "ROLLBACK")
)
"""The tags of commands about transactions. COMMIT PREPARED is none: it is a transaction of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The outcomes of `statements` are known now, each with its own.

    Where `closes`, a transaction is over by it, `outcome` says how, and `of` how many statements had a part in it.
    """

    transaction: int
    outcome: Outcome
    statements: dict[int, Outcome] = field(default_factory=dict)
    closes: bool
    of: int


@dataclass(slots=True, kw_only=True)
class _Statement:
    """A statement of which not all is known yet."""

    number: int
    transaction: int
    several: bool = False
    """It may have been several transactions."""
    waiting: int = 0
    """Parts whose transactions are not over."""
    complete: bool = False
    fates: set[Fate] = field(default_factory=set)
    light: set[Fate] = field(default_factory=set)
    """Of its parts that did nothing by themselves (SAVEPOINT): they count where there is nothing else."""

    def outcome(self) -> Outcome:
        fates = self.fates or self.light
        if "in doubt" in fates:
            return "in doubt"
        return "partly committed" if len(fates) > 1 else next(iter(fates))


@dataclass(slots=True, kw_only=True)
class _Part:
    """What a statement did in a transaction that is open."""

    statement: _Statement
    position: int
    light: bool
    maybe_over: bool = False
    """It may have been committed already, whatever becomes of the transaction."""
    maybe_undone: bool = False

    def settle(self, became: Fate, known: dict[int, Outcome]) -> None:
        """It is over, and so `became` the transaction."""
        doubt = self.maybe_over if became == "rolled back" else self.maybe_undone
        statement = self.statement
        (statement.light if self.light else statement.fates).add("in doubt" if doubt else became)
        statement.waiting -= 1
        if statement.complete and not statement.waiting:
            known[statement.number] = statement.outcome()


class Transactions:
    """One session's: `take` each record in order."""

    def __init__(self) -> None:
        self._begun: dict[int, StatementStart] = {}
        """Statements that have no end yet."""
        self._open: set[int] = set()
        """Statements that have parts in a transaction that is open."""
        self._running: dict[int, int] = {}
        """How many of these each transaction's number has."""
        self._pending: deque[_Part] = deque()
        self._savepoints = Savepoints()
        self._position = 0
        self._count = 0
        """How many statements had a part in the transaction that is open."""
        self._explicit = False
        """It was begun in so many words, for certain."""
        self._last: tuple[int, str, TransactionState | None] | None = None
        """Of the last statement that ended: its transaction's number, its kind, the state after it."""
        self._cut = False
        """Something was never answered in full."""
        self._transaction = self._counted = 0
        """The number of the open transaction, and of the last statement that had a part in it."""
        self._found: list[Known] = []

    def take(self, record: AnyRecord) -> Sequence[Known]:
        """What `record` makes known."""
        self._found = []
        match record:
            case StatementStart():
                self._begin(record)
            case StatementEnd():
                self._end(record)
            case SessionEnd():
                self._session_ends(record)
            case SessionReaped():  # What was not shipped before is missing here, so its word may be on something else.
                self._over("in doubt")
            case _:
                pass
        return self._found

    def waits_for(self, statement: int) -> bool:
        """Whether the outcome of `statement` may still become known. Not of one that did nothing, or is forgotten."""
        return statement in self._begun or statement in self._open

    def _begin(self, start: StatementStart) -> None:
        if len(self._begun) >= MOST:
            self._forget(next(iter(self._begun)))
        self._begun[start.statement] = start
        self._running[start.transaction] = self._running.get(start.transaction, 0) + 1

    def _forget(self, number: int) -> StatementStart | None:
        start = self._begun.pop(number, None)
        if start is not None:
            left = self._running.pop(start.transaction) - 1
            if left:
                self._running[start.transaction] = left
        return start

    def _end(self, end: StatementEnd) -> None:
        start = self._forget(end.statement)
        if start is None:
            self._missed()
            return
        if not end.skipped:
            self._boundary(start, end)
            self._did(start, end)
        self._round(start, end)
        self._last = start.transaction, start.kind, end.state

    def _missed(self) -> None:
        """A statement of which nothing is known: it may have done anything."""
        self._explicit = False
        self._savepoints.doubt()
        for part in self._pending:
            part.maybe_over = part.maybe_undone = True

    # Rounds: what one ReadyForQuery answers.

    def _boundary(self, start: StatementStart, end: StatementEnd) -> None:
        """Whether a ReadyForQuery, which commits what no BEGIN holds open, came before this statement.

        A Query is a round of its own. Executes of one round share the transaction's number, but so do those of several
        rounds that were sent while a transaction was open still: then nobody can tell where one ended.
        """
        if not self._pending or self._explicit or self._last is None:
            return
        transaction, kind, state = self._last
        if kind != "execute" or state != "I":
            return
        if start.transaction != transaction or end.state != "I":
            self._close("committed")
        elif start.state != "I":
            for part in self._pending:
                part.maybe_over = True

    def _round(self, start: StatementStart, end: StatementEnd) -> None:
        """Take what the ReadyForQuery has said. Ends of a round come together: no start of it can still be to come."""
        if end.state is None or (start.kind == "execute" and start.transaction in self._running):
            return
        if end.state == "I":
            if self._pending:
                self._close("committed")
            self._explicit = False
        else:
            self._explicit = True

    # What a statement did.

    def _did(self, start: StatementStart, end: StatementEnd) -> None:
        sql = start.sql if end.ran is None else end.ran.sql
        statement = _Statement(number=start.statement, transaction=start.transaction)
        if start.kind == "execute" or len(end.tags) + (end.sqlstate is not None) <= 1:
            statement.several = self._several(start, sql, failed=end.sqlstate is not None)
        commands: Sequence[Command | None] = ()
        if _CONTROL.intersection(end.tags):
            commands = savepoints.read(sql, len(end.tags))
        ordinary = False  # Many in a row are one part.
        for index, tag in enumerate(end.tags):
            if tag in _CONTROL:
                last = start.kind == "query" and end.sqlstate is None and index == len(end.tags) - 1
                self._control(statement, tag, commands[index], sql, end.state if last else None)
            elif not ordinary:
                self._add(statement)
            ordinary = tag not in _CONTROL
        self._answered(start, end, statement)
        statement.complete = True
        if statement.waiting:
            self._open.add(statement.number)
        elif statement.fates or statement.light:
            self._found[-1].statements[statement.number] = statement.outcome()

    def _answered(self, start: StatementStart, end: StatementEnd, statement: _Statement) -> None:
        """What is to be said of the statement besides its tags: it failed, or was cut, or has none."""
        if end.state is None:
            self._cut = True
            if start.kind != "execute" or not end.tags:
                self._add(statement)
        elif end.sqlstate is None:
            if not end.tags and (end.suspended or start.kind == "function"):
                self._add(statement)
        else:
            if start.kind != "execute" or not end.tags:  # Else it was done, and its commit has failed.
                self._add(statement)
            if end.state == "I":
                self._close("rolled back")
            else:
                self._explicit = True
                self._undo(self._position - 1, self._position - 1)

    def _several(self, start: StatementStart, sql: str, *, failed: bool) -> bool:
        """Whether the statement may have been several transactions: then what is open may have ended with one of them.

        Inside a transaction that was begun in so many words PostgreSQL refuses them.
        """
        if self._explicit or start.kind == "function":
            return False
        word = command(sql)
        needed = _SEVERAL.get(word)
        several = (needed is not None and needed.search(sql) is not None) or not sql
        if not failed and word in _ALONE:
            several = several or _AT_ONCE.search(sql) is not None
        if several:
            for part in self._pending:
                part.maybe_over = True
                part.maybe_undone = part.maybe_undone or word in _UNDOES
        return several

    def _control(
        self, statement: _Statement, tag: str, said: Command | None, sql: str, state: TransactionState | None
    ) -> None:
        """Take a command about transactions. `state`: the letter behind it, where nothing came in between."""
        name = None if said is None else said.savepoint
        match tag:
            case "BEGIN" | "START TRANSACTION":
                self._add(statement)
                self._explicit = True
            case "COMMIT":
                self._add(statement)
                self._close("committed")
            case "PREPARE TRANSACTION":
                self._add(statement)
                self._close("in doubt")
            case "SAVEPOINT":
                self._add(statement, light=True)
                self._savepoints.make(self._position, name)
            case "RELEASE":
                self._add(statement, light=True)
                self._savepoints.release(name)
            case _:
                self._rollback(statement, said, sql, state)

    def _rollback(self, statement: _Statement, said: Command | None, sql: str, state: TransactionState | None) -> None:
        """Take a ROLLBACK: of the transaction (a COMMIT may end so, too), of it with another to follow, or of a part.

        Only a savepoint can be rolled back to, and only what has the words in it can be TO or AND CHAIN.
        """
        named = said is not None and said.savepoint is not None
        whole = not self._savepoints or (said is not None and said.whole) or state == "I"
        if whole or (not named and _TO.search(sql) is None):
            self._add(statement)
            if not self._explicit and _PREPARE.search(sql) is not None:
                for part in self._pending:  # Outside of BEGIN it is answered ROLLBACK, with a warning, and commits.
                    part.maybe_over = True
            self._close("rolled back")
        elif named or (state == "T" and _CHAIN.search(sql) is None):
            self._explicit = True
            self._undo(*self._savepoints.roll_back(said.savepoint if said is not None else None))
            self._add(statement, light=True)
        else:
            newest, _ = self._savepoints.roll_back(None)
            self._explicit = False
            self._undo(newest, -1)
            self._add(statement, light=True)

    # What is open.

    def _add(self, statement: _Statement, *, light: bool = False) -> None:
        """The statement has a part in the transaction that is open."""
        if not self._pending and not self._explicit:
            self._count = 0
        if not self._count:
            self._transaction, self._counted = statement.transaction, 0
        self._count += self._counted != statement.number
        self._counted = statement.number
        self._position += 1
        statement.waiting += 1
        self._pending.append(
            _Part(statement=statement, position=self._position, light=light, maybe_over=statement.several)
        )
        if len(self._pending) > MOST:
            self._open.discard(self._pending.popleft().statement.number)  # It waits for ever.

    def _undo(self, after: int, doubtful_after: int) -> None:
        """What has been done behind `after` is rolled back; behind `doubtful_after` it may be."""
        known: dict[int, Outcome] = {}
        while self._pending and self._pending[-1].position > after:
            self._pending.pop().settle("rolled back", known)
        for part in self._pending:
            part.maybe_undone = part.maybe_undone or part.position > doubtful_after
        self._open.difference_update(known)
        one = Known(transaction=self._transaction, outcome="rolled back", statements=known, closes=False, of=0)
        self._found.append(one)

    def _close(self, became: Fate) -> None:
        """The transaction is over."""
        known: dict[int, Outcome] = {}
        for part in self._pending:
            part.settle(became, known)
        self._open.difference_update(known)
        self._pending.clear()
        one = Known(transaction=self._transaction, outcome=became, statements=known, closes=True, of=self._count)
        self._found.append(one)
        self._savepoints.clear()
        self._explicit = False
        self._count = 0

    # The end of the session.

    def _session_ends(self, end: SessionEnd) -> None:
        fates: dict[str, Fate] = {"rolled back": "rolled back", "committed before": "committed"}
        # Nothing but a COMMIT commits what is open, and none was on its way. After a crash, records may be missing.
        idle = not self._cut and not self._begun and end.reason != "crashed"
        self._over(fates.get(end.outcome, "rolled back" if idle else "in doubt"))

    def _over(self, became: Fate) -> None:
        """Nothing more comes."""
        for start in self._begun.values():
            statement = _Statement(number=start.statement, transaction=start.transaction, complete=True)
            self._add(statement)
        self._begun.clear()
        self._running.clear()
        if self._pending:
            self._close(became)
