"""What became of each statement's transaction."""

from collections.abc import Sequence
from typing import Any

import pytest

from control.evidence.transactions import MOST, Outcome, Transactions
from proxy.contract.record import AnyRecord, Ran, SessionReaped, StatementEnd, StatementStart
from tests.unit.control.desk import end as session_end

C, R, D, P = "committed", "rolled back", "in doubt", "partly committed"
Told = dict[int, Outcome]


class Session:
    """Makes a session's records: what is sent, with the state that is known then, and how it ends."""

    def __init__(self) -> None:
        self.records: list[AnyRecord] = []
        self.state: Any = "I"
        self.number = self.transaction = 0

    def query(self, sql: str, *tags: str, state: str = "I", **fields: Any) -> "Session":  # noqa: ANN401 of an end
        """A Query that is answered before anything else is sent."""
        self.send(sql, kind="query")
        return self.answer((self.number, tags, fields), state=state)

    def round(self, *asked: tuple[Any, ...], state: str = "I") -> "Session":
        """Executes up to a Sync: each is its text, its tags, and its error or None ("skipped": it never ran)."""
        first = self.number + 1
        for index, (sql, *_) in enumerate(asked):
            self.send(sql, kind="execute", again=index > 0)
        return self.answer(*(_ended(first + index, *rest) for index, (_, *rest) in enumerate(asked)), state=state)

    def send(self, sql: str, *, kind: Any = "execute", again: bool = False) -> "Session":  # noqa: ANN401 a literal
        """Something is sent; `again`: in the round that is open."""
        self.number += 1
        self.transaction += self.state == "I" and not again
        self.records.append(
            StatementStart(statement=self.number, kind=kind, sql=sql, state=self.state, transaction=self.transaction)
        )
        return self

    def answer(self, *ends: tuple[int, Sequence[str], dict[str, Any]], state: Any) -> "Session":  # noqa: ANN401 a literal
        """A ReadyForQuery, and the ends that it brings."""
        for number, tags, fields in ends:
            self.records.append(StatementEnd(statement=number, tags=list(tags), duration=1, state=state, **fields))
        self.state = state
        return self

    def over(self, outcome: Any = "nothing open", **fields: Any) -> "Session":  # noqa: ANN401 of a session's end
        """The session's end."""
        self.records.append(session_end(outcome=outcome, **fields))
        return self

    def told(self) -> Told:
        """What is known in the end."""
        transactions = Transactions()
        found: Told = {}
        for record in self.records:
            for known in transactions.take(record):
                found |= known.statements
        return found

    def outcomes(self) -> list[Outcome | None]:
        """The same, of each statement."""
        told = self.told()
        return [told.get(number) for number in range(1, self.number + 1)]


def _ended(number: int, tag: str | None, error: str | None = None) -> tuple[int, Sequence[str], dict[str, Any]]:
    fields = {"skipped": True} if error == "skipped" else {} if error is None else {"sqlstate": error, "message": "no"}
    return number, () if tag is None else (tag,), fields


INSERT = ("INSERT", "INSERT 0 1")
BAD = ("SELECT 1/0", None, "22012")
SKIPPED = ("INSERT", None, "skipped")
FAILS = {"sqlstate": "22012", "message": "division by zero"}


def block(closing: str, tag: str, state: str = "I") -> Session:
    """A transaction of one statement, and how it is closed."""
    return Session().query("BEGIN", "BEGIN", state="T").query(*INSERT, state="T").query(closing, tag, state=state)


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        (Session().query(*INSERT), [C]),
        (Session().query("SELECT 1/0", **FAILS), [R]),
        (Session().query(";"), [None]),
        (Session().query("INSERT; INSERT; SELECT 1/0", "INSERT 0 1", "INSERT 0 1", **FAILS), [R]),
        (Session().query("INSERT; COMMIT; SELECT 1/0", "INSERT 0 1", "COMMIT", **FAILS), [P]),
        (Session().query("INSERT; ROLLBACK; INSERT", "INSERT 0 1", "ROLLBACK", "INSERT 0 1"), [P]),
        (Session().query("INSERT; ROLLBACK; SELECT 1/0", "INSERT 0 1", "ROLLBACK", **FAILS), [R]),
        (Session().query("CREATE DATABASE d", "CREATE DATABASE"), [C]),
        (Session().query("SELECT lo_create(0)", "SELECT 1"), [C]),
        (block("COMMIT", "COMMIT"), [C, C, C]),
        (block("END", "COMMIT"), [C, C, C]),
        (block("ROLLBACK", "ROLLBACK"), [R, R, R]),
        (block("COMMIT", "ROLLBACK"), [R, R, R]),
        (block("COMMIT AND CHAIN", "COMMIT", "T"), [C, C, C]),
        (block("ROLLBACK AND CHAIN", "ROLLBACK", "T"), [R, R, R]),
        (block("COMMIT AND CHAIN", "COMMIT", "T").query(*INSERT, state="T"), [C, C, C, None]),
        (
            block("COMMIT AND CHAIN", "COMMIT", "T").query(*INSERT, state="T").query("ROLLBACK", "ROLLBACK"),
            [C] * 3 + [R] * 2,
        ),
        (block("PREPARE TRANSACTION 'g'", "PREPARE TRANSACTION"), [D, D, D]),
        (
            block("PREPARE TRANSACTION 'g'", "PREPARE TRANSACTION").query("COMMIT PREPARED 'g'", "COMMIT PREPARED"),
            [D, D, D, C],
        ),
        (Session().query("ROLLBACK PREPARED 'g'", "ROLLBACK PREPARED"), [C]),
    ],
)
def test_queries(session: Session, expected: list[Outcome]) -> None:
    """One at a time: by themselves, several in one, and in a transaction."""
    assert session.outcomes() == expected


def test_a_failed_transaction() -> None:
    """What failed is rolled back at once, what follows it too; what was before is when the transaction ends."""
    session = Session().query("BEGIN", "BEGIN", state="T").query(*INSERT, state="T").query("x", state="E", **FAILS)
    session.query("INSERT", state="E", sqlstate="25P02", message="aborted")
    assert session.outcomes() == [None, None, R, R]
    assert session.query("COMMIT", "ROLLBACK").outcomes() == [R] * 5


def test_a_commit_that_fails() -> None:
    """A deferred constraint: the transaction is gone."""
    session = Session().query("BEGIN", "BEGIN", state="T").query(*INSERT, state="T").query("COMMIT", **FAILS)
    assert session.outcomes() == [R, R, R]


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        (Session().round(INSERT, INSERT), [C, C]),
        (Session().round(INSERT, BAD, SKIPPED), [R, R, None]),
        (Session().round(INSERT, (*INSERT, "23503")), [R, R]),  # the Sync's own commit fails
        (Session().round(INSERT, ("COMMIT", "COMMIT"), INSERT, BAD), [C, C, R, R]),
        (Session().round(("BEGIN", "BEGIN"), INSERT, state="T").round(INSERT, ("COMMIT", "COMMIT")), [C] * 4),
        (Session().round(("BEGIN", "BEGIN"), INSERT, state="T").round(BAD, SKIPPED, state="E"), [None, None, R, None]),
        (Session().round(INSERT, ("BEGIN", "BEGIN"), INSERT, state="T").query("ROLLBACK", "ROLLBACK"), [R] * 4),
        (Session().round(INSERT, ("CALL p()", "CALL"), BAD), [D, D, R]),
        (Session().round(INSERT, ("CALL p()", "CALL")), [D, C]),
        (Session().round(("VACUUM", "VACUUM"), BAD), [D, R]),
        (Session().round(("CREATE DATABASE d", "CREATE DATABASE"), BAD), [D, R]),
        (Session().round(INSERT, ("PREPARE TRANSACTION 'g'", "ROLLBACK")), [D, D]),  # outside of BEGIN it commits
    ],
)
def test_rounds_of_a_pipeline(session: Session, expected: list[Outcome]) -> None:
    """Executes up to a Sync are one transaction, but for what commits inside."""
    assert session.outcomes() == expected


def test_rounds_that_are_sent_without_waiting() -> None:
    """Each has its own number, where no transaction was open: a failure is of its own round alone."""
    session = Session().send("INSERT").send("INSERT").send("SELECT 1/0", again=True)
    session.answer(_ended(1, "INSERT 0 1"), state="I").answer(
        _ended(2, "INSERT 0 1"), _ended(3, None, "22012"), state="I"
    )
    assert session.outcomes() == [C, R, R]


def test_rounds_that_nobody_can_tell_apart() -> None:
    """Sent while a transaction was open: whether the failure was of the round before is not known."""
    session = Session().query("BEGIN", "BEGIN", state="T").send("COMMIT").send("INSERT").send("SELECT 1/0")
    session.answer(_ended(2, "COMMIT"), _ended(3, "INSERT 0 1"), _ended(4, None, "22012"), state="I")
    assert session.outcomes() == [C, C, D, R]
    told_apart = Session().query("BEGIN", "BEGIN", state="T").send("COMMIT").send("INSERT").send("BEGIN").send("INSERT")
    told_apart.answer(_ended(2, "COMMIT"), _ended(3, "INSERT 0 1"), state="I")
    told_apart.answer(_ended(4, "BEGIN"), _ended(5, "INSERT 0 1"), state="T").query("ROLLBACK", "ROLLBACK")
    assert told_apart.outcomes() == [C, C, C, R, R, R]


def test_a_round_is_told_when_it_is_over() -> None:
    """Not by the first end of it: the last one may fail. And not later either: nobody may come for long."""
    session = Session().send("INSERT").send("INSERT", again=True)
    session.answer(_ended(1, "INSERT 0 1"), state="I")
    assert session.outcomes() == [None, None]
    assert session.answer(_ended(2, "INSERT 0 1"), state="I").outcomes() == [C, C]


def test_function_calls_and_suspended_portals() -> None:
    """They have no tag, and are work all the same."""
    session = Session().send("", kind="function").answer((1, (), {}), state="I")
    assert session.outcomes() == [C]
    session.send("SELECT f()").answer((2, (), {"suspended": True, "rows": 5}), state="I")
    assert session.outcomes() == [C, C]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("CALL p()", D),
        ("DO $$ BEGIN COMMIT; PERFORM 1/0; END $$", D),
        ("DO $$ BEGIN PERFORM 1/0; END $$", R),
        ("VACUUM", D),
        ("REINDEX DATABASE d", D),
        ("CREATE INDEX CONCURRENTLY i ON t (a)", D),
        ("create index i on t (a)", R),
        ("/* /* */ */ CALL p()", D),
        ("SELEC 1", R),
        ("UPDATE t SET a = 'call'", R),
        ("", D),
    ],
)
def test_a_failure_of_what_may_be_several_transactions(sql: str, expected: Outcome) -> None:
    """Some of it may be committed. In a transaction that was begun it cannot be."""
    assert Session().round((sql, None, "22012")).outcomes() == [expected]
    inside = Session().query("BEGIN", "BEGIN", state="T").query(sql, state="E", **FAILS)
    assert inside.outcomes() == [None, R]


def test_what_ran_counts() -> None:
    """Not what its start had announced."""
    session = Session().send("SELECT 1").answer((1, (), FAILS | {"ran": Ran(sql="CALL p()")}), state="I")
    assert session.outcomes() == [D]


def savepoints(*commands: tuple[str, str]) -> Session:
    """A transaction in which each command is followed by an INSERT; committed."""
    session = Session().query("BEGIN", "BEGIN", state="T")
    for sql, tag in commands:
        session.query(sql, tag, state="T").query(*INSERT, state="T")
    return session.query("COMMIT", "COMMIT")


A, B = ("SAVEPOINT a", "SAVEPOINT"), ('savepoint "b"', "SAVEPOINT")
HIDDEN = ("SAVEPOINT /* */ c", "SAVEPOINT")


@pytest.mark.parametrize(
    ("commands", "inserts"),
    [
        ([A, ("ROLLBACK TO a", "ROLLBACK")], [R, C]),
        ([A, B, ("ROLLBACK TO B", "ROLLBACK")], [C, R, C]),
        ([A, B, ('rollback work to savepoint "b" ;', "ROLLBACK")], [C, R, C]),
        ([A, B, ("ROLLBACK TO SAVEPOINT A", "ROLLBACK")], [R, R, C]),
        ([A, A, ("ROLLBACK TO a", "ROLLBACK")], [C, R, C]),
        ([A, A, ("RELEASE a", "RELEASE"), ("ROLLBACK TO a", "ROLLBACK")], [R, R, R, C]),
        ([A, B, ("RELEASE a", "RELEASE")], [C, C, C]),
        ([A, ("ROLLBACK /* */ TO a", "ROLLBACK")], [R, C]),
        ([A, B, ("ROLLBACK /* */ TO a", "ROLLBACK")], [D, R, C]),
        ([A, HIDDEN, ("ROLLBACK TO c", "ROLLBACK")], [D, R, C]),
        ([HIDDEN, ("ROLLBACK TO c", "ROLLBACK")], [R, C]),
        ([A, ("/* chain */ ROLLBACK TO a", "ROLLBACK")], [R, C]),
        ([A, ("ROLLBACK AND CHAIN", "ROLLBACK")], [R, C]),
        ([A, ("/* */ ROLLBACK AND CHAIN", "ROLLBACK")], [R, C]),
    ],
)
def test_savepoints(commands: list[tuple[str, str]], inserts: list[Outcome]) -> None:
    """What is rolled back to one, and what is left; where the text does not say which, what may be is in doubt."""
    assert savepoints(*commands).outcomes()[2::2] == inserts


def test_a_rollback_that_may_be_of_everything() -> None:
    """To a savepoint, or with another transaction to follow: neither tag nor letter says it, nor what is hidden."""
    before = Session().query("BEGIN", "BEGIN", state="T").query(*INSERT, state="T").query(*A, state="T")
    before.query(*INSERT, state="T").query("/* and chain */ ROLLBACK TO a", "ROLLBACK", state="T").query(
        *INSERT, state="T"
    )
    assert before.query("COMMIT", "COMMIT").outcomes()[1:6:2] == [D, R, C]


@pytest.mark.parametrize(("sql", "state"), [("/* to */ ROLLBACK", "I"), ("-- undo all\nROLLBACK AND CHAIN", "T")])
def test_a_rollback_that_cannot_be_to_a_savepoint(sql: str, state: str) -> None:
    """Nothing is open behind it, or the word is missing: what was before the savepoint is gone, too."""
    session = Session().query("BEGIN", "BEGIN", state="T").query(*INSERT, state="T").query(*A, state="T")
    assert session.query(sql, "ROLLBACK", state=state).outcomes() == [R] * 4


def test_savepoints_in_one_query() -> None:
    """As psycopg sends them."""
    session = Session().query("BEGIN", "BEGIN", state="T").query('SAVEPOINT "s1"', "SAVEPOINT", state="T")
    session.query(*INSERT, state="T").query("SELECT 1/0", state="E", **FAILS)
    session.query('ROLLBACK TO "s1"; RELEASE "s1"', "ROLLBACK", "RELEASE", state="T").query(*INSERT, state="T")
    assert session.query("COMMIT", "COMMIT").outcomes() == [C, C, R, R, C, C, C]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ("rolled back", [R, R, R]),
        ("committed before", [C, C, C]),
        ("partly committed", [D, D, D]),
        ("unknown", [D, D, D]),
    ],
)
def test_what_runs_when_the_session_ends(outcome: str, expected: list[Outcome]) -> None:
    """The end says it, or nobody knows. It has an end of its own, or none (the proxy died)."""
    session = Session().query("BEGIN", "BEGIN", state="T").query(*INSERT, state="T").send("COMMIT", kind="query")
    assert session.outcomes() == [None] * 3
    cut = StatementEnd(statement=3, duration=1)
    for records in ([*session.records, cut], session.records):
        other = Session()
        other.number, other.records = 3, list(records)
        assert other.over(outcome, reason="killed").outcomes() == expected


@pytest.mark.parametrize(("reason", "expected"), [("closed", R), ("expired", R), ("crashed", D)])
def test_an_idle_transaction_when_the_session_ends(reason: str, expected: Outcome) -> None:
    """Without a COMMIT nothing commits it; but after a crash records may be missing."""
    session = Session().query("BEGIN", "BEGIN", state="T").query(*INSERT, state="T")
    assert session.over("unknown", reason=reason).outcomes() == [expected] * 2


def test_a_session_that_others_have_ended() -> None:
    """What its proxy has not shipped is missing: the fate of the last transaction may be of another one."""
    session = Session().query("BEGIN", "BEGIN", state="T").query(*INSERT, state="T").send("INSERT")
    session.records.append(
        SessionReaped(
            reaped="s",
            left_by="p",
            target="t",
            backend_pid=1,
            backend_start="",
            decided_at=1,
            found=1,
            transaction="aborted",
        )
    )
    assert session.outcomes() == [D, D, D]


def test_an_end_that_came_with_tags_of_a_commit() -> None:
    """PostgreSQL has said COMMIT before it was gone: that part is certain."""
    session = Session().query("BEGIN", "BEGIN", state="T").query(*INSERT, state="T")
    session.send("COMMIT; SELECT pg_sleep(9)", kind="query").answer((3, ("COMMIT",), {}), state=None)
    assert session.over("unknown", reason="killed").outcomes() == [C, C, D]


def test_nothing_grows_with_a_long_transaction() -> None:
    """The oldest statements are forgotten; how many there were is not."""
    transactions = Transactions()
    begun = Session().query("BEGIN", "BEGIN", state="T")
    for _ in range(MOST + 10):
        begun.query(*INSERT, state="T")
    for record in begun.records:
        assert not transactions.take(record)
    assert len(transactions._pending) == len(transactions._open) == MOST
    assert not transactions.waits_for(1)
    (known,) = transactions.take(session_end(outcome="rolled back"))
    assert (known.of, known.outcome, len(known.statements)) == (MOST + 11, R, MOST)


def test_records_that_no_proxy_writes() -> None:
    """An end without its start may have been anything; a start too many is forgotten."""
    session = Session().query("BEGIN", "BEGIN", state="T").query(*INSERT, state="T")
    session.answer((99, ("ROLLBACK",), {}), state="T")
    assert session.query("COMMIT", "COMMIT").outcomes() == [D, D, C]
    transactions = Transactions()
    for number in range(MOST + 5):
        transactions.take(StatementStart(statement=number, kind="query", sql="", state="I", transaction=number))
    assert len(transactions._begun) == len(transactions._running) == MOST
