"""The short version of `python -m tests.witness`, and that the witness finds what it is there to find."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from proxy.contract.record import Parameter
from tests.harness.binaries import postgresql_bin
from tests.harness.certs import Authority
from tests.harness.witness import Logged, Recorded, compare, doubtful
from tests.witness import __main__ as command
from tests.witness.clients import CLIENTS
from tests.witness.hypotheses import converse
from tests.witness.stand import Place, witnessed
from tests.witness.values import different

QUICK = ("psql", "libpq", "psycopg", "asyncpg")
EXAMPLES = 15
ONE = Logged(kind="query", text="SELECT 1")
TWO = Logged(kind="query", text="SELECT 2")
ON_RECORD = [Recorded(kind="query", text="SELECT 1"), Recorded(kind="query", text="SELECT 2")]


@pytest.fixture(scope="module")
def place(ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Where clients are witnessed."""
    with witnessed(ca, tmp_path_factory.mktemp("witness"), postgresql_bin()) as place:
        yield place


@pytest.mark.parametrize("name", QUICK)
async def test_a_client(place: Place, tmp_path: Path, name: str) -> None:
    """What PostgreSQL logged of it is what is on record, values included."""
    with place.stand() as stand:
        await CLIENTS[name].use(stand, tmp_path)
        verdict = await place.judge(stand)
    assert verdict.differences == ()
    assert verdict.logged > 0


async def test_the_random_client(place: Place) -> None:
    """A few conversations of whatever the protocol has."""
    with place.stand() as stand:
        verdict = await asyncio.to_thread(converse, place, stand, EXAMPLES, repeatable=True)
    assert verdict.differences == ()
    assert verdict.logged > EXAMPLES


def test_one_that_is_missing_or_too_many() -> None:
    """A statement that only one of the two has is named, where it stands."""
    assert str(compare([ONE, TWO], ON_RECORD)) == ""
    assert compare([ONE, TWO, ONE], ON_RECORD).unrecorded == (ONE,)
    assert compare([TWO], ON_RECORD).unexecuted == (ON_RECORD[0],)
    assert compare([TWO, ONE], ON_RECORD).unrecorded == (ONE,), "the order counts"


def test_what_was_never_executed() -> None:
    """Skipped, refused with the same SQLSTATE, empty: nothing that PostgreSQL would log. The same without: a fault."""
    skipped = Recorded(kind="execute", text="SELECT 3", skipped=True)
    refused = Recorded(kind="query", text="SELEC", sqlstate="42601")
    empty = Recorded(kind="execute", text="-- nothing")
    error = Logged(kind="error", text="SELEC", sqlstate="42601", refused=True)
    assert str(compare([ONE, error, TWO], [ON_RECORD[0], skipped, refused, empty, ON_RECORD[1]])) == ""
    assert compare([ONE, TWO], [ON_RECORD[0], refused, ON_RECORD[1]]).unexecuted == (refused,)
    not_skipped = Recorded(kind="execute", text="SELECT 3")
    assert compare([ONE, TWO], [ON_RECORD[0], not_skipped, ON_RECORD[1]]).unexecuted == (not_skipped,)


def test_a_secret() -> None:
    """What is masked may be anything, and the rest of the text may not."""
    masked = Recorded(kind="query", text="ALTER ROLE r PASSWORD '***'", masked=True)
    assert str(compare([Logged(kind="query", text="ALTER ROLE r PASSWORD 'x'")], [masked])) == ""
    assert str(compare([Logged(kind="query", text="ALTER ROLE q PASSWORD 'x'")], [masked])) != ""


def test_values(place: Place) -> None:
    """The same value in another form is the same to PostgreSQL; another value, NULL for a text and one less are not."""
    same = [
        ("2026-11-22 12:00:00+00", Parameter(type=1184, value="2026-11-22T13:00:00+01:00")),
        (None, Parameter(type=25)),
    ]
    same += [("\\x00ff", Parameter(type=17, base64="AP8=")), ("1.5", Parameter(type=0, value=1.5))]
    other = [("1", Parameter(type=23, value=2)), (None, Parameter(type=25, value="NULL")), ("", Parameter(type=25))]
    with psycopg.connect(place.cluster.dsn(), autocommit=True) as server:
        for pairs, expected in ((same, 0), (other, 1)):
            for logged, value in pairs:
                pair = statement((logged,), (value,))
                assert len([*different(doubtful([pair]), server)]) == expected, (logged, value)
        assert len([*different(doubtful([statement(("1", "2"), (Parameter(type=23, value=1),))]), server)]) == 1


def statement(logged: tuple[str | None, ...], values: tuple[Parameter, ...]) -> tuple[Logged, Recorded]:
    """Both accounts of a statement with these values."""
    text = "SELECT $1::float8"
    return Logged(kind="execute", text=text, values=logged), Recorded(kind="execute", text=text, parameters=values)


def test_the_command_names_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    """`--list` shows the clients, and an unknown name is refused."""
    assert command.main(["--list"]) == 0
    assert capsys.readouterr().out.count("\n") == len(CLIENTS) + 1
    with pytest.raises(SystemExit):
        command.main(["nobody"])
