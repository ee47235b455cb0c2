"""What is sent for a round, and what its answers mean. Against PostgreSQL: tests/integration/rerun."""

import msgspec
import pytest

from control.client.rerun_messages import Answers, Names, chunks, ends, message, value
from control.client.rerun_rounds import CopyPart, Definition, Round, Statement
from proxy.contract.record import Parameter, StatementEnd

READY = b"I"
SYNTAX = b"SERROR\0VERROR\0C42601\0Msyntax error\0\0"
GONE = b"SFATAL\0VFATAL\0C57P01\0Mterminating\0\0"


def statement(number: int, sql: str = "SELECT 1", *, kind: str = "execute", **more: object) -> Statement:
    """A statement that went well."""
    one = Statement(
        number=number,
        kind=kind,
        sql=sql,
        text=sql.encode(),
        name=None,
        parameters=(),
        portal="",
        continued=False,
        copies=(),
        end=StatementEnd(statement=number, duration=1, state="I"),
        lacks=None,
    )
    return msgspec.structs.replace(one, **more)


def asked(*steps: Statement | Definition) -> Round:
    """A round of these."""
    return Round(steps=steps, began_at=0, ended_at=0)


def sent(*steps: Statement | Definition, names: Names | None = None) -> list[str]:
    """The kinds of the messages that are sent, piece by piece."""
    return [_kinds(piece) for piece in chunks(asked(*steps), names or Names())]


def _kinds(data: bytes) -> str:
    kinds = ""
    while data:
        kinds += chr(data[0])
        data = data[1 + int.from_bytes(data[1:5]) :]
    return kinds


def test_what_is_sent() -> None:
    """A query by itself has no Sync; a named statement is defined once, and its name is freed before."""
    names, named = Names(), statement(1, name="p")
    assert sent(statement(1, kind="query")) == ["Q"]
    assert sent(statement(1), statement(2)) == ["PBEPBES"]
    assert sent(statement(1), statement(2, kind="query")) == ["PBEQS"]
    assert sent(Definition(name="p", text=b"SELECT 1", types=()), named, names=names) == ["CPBES"]
    assert sent(named, names=names) == ["BES"]
    assert sent(statement(1, "other", name="p"), names=names) == ["CPBES"]
    assert sent(statement(1, "", name="portal c"), statement(2, continued=True)) == ["EES"]


def test_a_copy_is_waited_for() -> None:
    """What follows it goes when it is over: PostgreSQL would take a Sync for part of the COPY."""
    part = CopyPart(direction="in", size=1, failed=False, first=0, end=1)
    assert sent(statement(1, copies=(part,)), statement(2)) == ["PBEH", "PBES"]


def test_a_definition_that_is_not_taken_means_nothing() -> None:
    """It is made again when it is used."""
    names = Names()
    sent(
        Definition(name="p", text=b"SELECT 1", types=()), Definition(name="q", text=b"nonsense", types=()), names=names
    )
    names.settle(1)
    assert names.means("p", b"SELECT 1")
    assert not names.means("q", b"nonsense")


def test_an_error_skips_the_rest() -> None:
    """And one ReadyForQuery comes, even where a query is skipped."""
    one = asked(statement(1), statement(2), statement(3, kind="query"))
    assert ends(one) == 2
    answers = Answers(one)
    for kind, body in ((b"1", b""), (b"2", b""), (b"C", b"SELECT 1\0"), (b"E", SYNTAX), (b"Z", READY)):
        assert not answers.over
        answers.take(kind, len(body), body)
    assert answers.over
    first, second, third = answers.outcomes
    assert (first.tags, first.sqlstate, first.skipped) == (["SELECT 1"], None, False)
    assert (second.sqlstate, second.message, second.skipped) == ("42601", "syntax error", False)
    assert (third.tags, third.skipped, third.state) == ([], True, "I")


def test_a_commit_that_fails_is_the_last_ones_error() -> None:
    """As it is recorded."""
    answers = Answers(asked(statement(1)))
    for kind, body in ((b"C", b"INSERT 0 1\0"), (b"E", SYNTAX), (b"Z", READY)):
        answers.take(kind, len(body), body)
    assert (answers.outcomes[0].tags, answers.outcomes[0].sqlstate) == (["INSERT 0 1"], "42601")
    assert answers.over


def test_the_end_of_the_connection() -> None:
    """Comes without a ReadyForQuery."""
    answers = Answers(asked(statement(1, kind="query")))
    answers.take(b"E", len(GONE), GONE)
    assert answers.over
    assert answers.lost == "57P01 terminating"


@pytest.mark.parametrize(
    ("parameter", "sent"),
    [
        (Parameter(type=23), None),
        (Parameter(type=16, value=True), b"true"),
        (Parameter(type=23, value=-7), b"-7"),
        (Parameter(type=701, value=0.1), b"0.1"),
        (Parameter(type=701, value=-0.0), b"-0.0"),
        (Parameter(type=25, value="ü"), "ü".encode()),
        (Parameter(type=17, base64="AP8=", binary=True), b"\0\xff"),
    ],
)
def test_values(parameter: Parameter, sent: bytes | None) -> None:
    """As PostgreSQL reads them."""
    assert value(parameter) == sent


def test_a_message() -> None:
    """Its length counts itself."""
    assert message(b"Q", b"x\0") == b"Q\0\0\0\6x\0"
