"""What pg_stat_statements counted and what is on record, by query: what is the same, and what is told."""

from tests.harness.witness import Recorded
from tests.witness.statistics import Counts, counted, differences, on_record


def ran(text: str, *tags: str, kind: str = "query", sqlstate: str | None = None, round_: int = 0) -> Recorded:
    """A statement on record, with no transaction open behind it."""
    return Recorded(kind=kind, text=text, tags=tags, sqlstate=sqlstate, idle=True, round=round_)


def told(server: Counts, *statements: Recorded) -> list[str]:
    """What differs."""
    return [*differences(server, *on_record([statements]))]


def test_constants_do_not_count() -> None:
    """A query with constants, with others and with parameters is one query; several in one text are several."""
    server = counted([("SELECT $1 FROM t", 3, 7), ("UPDATE t SET n = $1", 1, 2), ("BEGIN", 1, 0)])
    same = [ran("SELECT 41 FROM t", "SELECT 1"), ran("SELECT $1 FROM t", "SELECT 5", kind="execute")]
    assert told(server, *same, ran("SELECT 'x' FROM t; UPDATE t SET n = 2", "SELECT 1", "UPDATE 2")) == []
    assert len(told(server, *same)) == 2
    assert told(counted([("SET work_mem = $1", 1, 0)]), ran("SET work_mem = '4MB'", "SET")) == []


def test_a_call_or_a_row_too_many_is_told() -> None:
    """Of the query by its text, whichever of the two has it."""
    server = counted([("SELECT $1 FROM t", 1, 1)])
    assert told(server, ran("SELECT 1 FROM t", "SELECT 1")) == []
    assert "1 calls and 1 rows, on record are 1 and 2" in told(server, ran("SELECT 1 FROM t", "SELECT 2"))[0]
    assert "1 calls and 1 rows, on record are 0 and 0: 'SELECT $1 FROM t'" in told(server)[0]
    assert "on record are 1 and 0: 'VACUUM t'" in told({}, ran("VACUUM t", "VACUUM"))[0]


def test_what_an_error_took_away_is_left_out() -> None:
    """The Execute before it in its round, and in no other one."""
    before = ran("SELECT 1 FROM t", "SELECT 1", kind="execute", round_=1)
    error = ran("SELECT 1/0", kind="execute", sqlstate="22012", round_=1)
    assert told({}, before, error) == []
    assert len(told({}, before, ran("SELECT 1/0", kind="execute", sqlstate="22012", round_=2))) == 1
