"""What a SQL text is. In this process, because nothing here crashes the parser (`test_parsing` has what does)."""

import pytest

from control.evidence.classification import classify
from control.evidence.parsed import MOST_NAMES, Label, Parsed


@pytest.mark.parametrize(
    ("sql", "classes"),
    [
        ("select 1", ["SELECT"]),
        ("VALUES (1)", ["SELECT"]),
        ("table t", ["SELECT"]),
        ("begin; update t set a = 1; select 2; commit", ["BEGIN", "UPDATE", "SELECT", "COMMIT"]),
        ("/* drop */ -- table\n start transaction", ["START TRANSACTION"]),
        ("rollback to a", ["ROLLBACK"]),
        ("prepare transaction 'x'", ["PREPARE TRANSACTION"]),
        ("commit prepared 'x'", ["COMMIT PREPARED"]),
        ("with d as (delete from t returning 1) select * from d", ["SELECT", "DELETE"]),
        ("explain analyze delete from t", ["EXPLAIN", "DELETE"]),
        ("explain (costs off) delete from t", ["EXPLAIN"]),
        ("prepare p as insert into t values (1)", ["PREPARE", "INSERT"]),
        ("execute p(1)", ["EXECUTE"]),
        ("deallocate all", ["DEALLOCATE ALL"]),
        ("declare c cursor for select 1", ["DECLARE CURSOR"]),
        ("fetch 5 c; move 1 c; close c; close all", ["FETCH", "MOVE", "CLOSE CURSOR", "CLOSE CURSOR ALL"]),
        ("create table t (a int)", ["CREATE TABLE"]),
        ("create temp table t as select 1", ["CREATE TABLE AS"]),
        ("select 1 into t", ["SELECT INTO"]),
        ("create materialized view v as select 1", ["CREATE MATERIALIZED VIEW"]),
        ("drop materialized view v", ["DROP MATERIALIZED VIEW"]),
        ("drop foreign data wrapper w; drop server s", ["DROP FOREIGN DATA WRAPPER", "DROP SERVER"]),
        ("alter view v rename column a to b", ["ALTER VIEW"]),
        ("alter index i rename to j", ["ALTER INDEX"]),
        ("alter table t owner to x; alter type y owner to x", ["ALTER TABLE", "ALTER TYPE"]),
        ("create function f() returns int language sql begin atomic delete from t; end", ["CREATE FUNCTION"]),
        ("create rule r as on insert to t do also delete from u", ["CREATE RULE"]),
        ("create aggregate a (int) (sfunc = f, stype = int)", ["CREATE AGGREGATE"]),
        ("do $$ begin delete from t; end $$", ["DO"]),
        ("set role x; reset role; show all", ["SET", "RESET", "SHOW"]),
        ("discard temp", ["DISCARD TEMP"]),
        ("grant a to b; revoke select on t from b", ["GRANT ROLE", "REVOKE"]),
        ("analyze t; vacuum t", ["ANALYZE", "VACUUM"]),
        ("lock table t; truncate t", ["LOCK TABLE", "TRUNCATE TABLE"]),
        ("alter role x password '***'", ["ALTER ROLE"]),
        ("START_REPLICATION SLOT a LOGICAL 0/0", ["START_REPLICATION"]),
        ("identify_system", ["IDENTIFY_SYSTEM"]),
        ("", []),
        ("  -- nothing", []),
    ],
)
def test_commands(sql: str, classes: list[str]) -> None:
    """By PostgreSQL's own command tags, each once, and what runs inside of another one too."""
    parsed = classify(sql.encode())
    assert (parsed.classes, parsed.label) == (classes, None)


@pytest.mark.parametrize(
    ("sql", "read", "written"),
    [
        ('select * from Orders, S.items join "Big"."T""x" using (a)', ["orders", "s.items", '"Big"."T""x"'], []),
        ("select (select 1 from a) where exists (select 1 from b)", ["a", "b"], []),
        ("insert into a select * from b", ["b"], ["a"]),
        ("update a set x = (select 1 from c) from b", ["b", "c"], ["a"]),
        ("delete from a using b", ["b"], ["a"]),
        ("delete from a using a as b", [], ["a"]),
        ("merge into a using b on true when matched then delete", ["b"], ["a"]),
        ("copy a from stdin", [], ["a"]),
        ("copy a to stdout", ["a"], []),
        ("copy (select * from a) to stdout", ["a"], []),
        ("copy (delete from a returning *) to stdout", [], ["a"]),
        ("truncate a, s.b", [], ["a", "s.b"]),
        ("drop table a, s.b", [], ["a", "s.b"]),
        ("drop trigger tr on s.a", [], ["s.a"]),
        ("drop function f", [], []),
        ("create table a (like b)", ["b"], ["a"]),
        ("create view a as select * from b", ["b"], ["a"]),
        ("select * into a from b", ["b"], ["a"]),
        ("create index on a (f(x))", [], ["a"]),
        ("alter table db.s.a add b int", [], ["db.s.a"]),
        ("explain delete from a", ["a"], []),
        ("lock table a", ["a"], []),
        ("with orders as (select * from orders) select * from orders", ["orders"], []),
        ("with a as (select 1), b as (select * from a) select * from b", [], []),
        ("with b as (select * from a), a as (select 1) select * from b", ["a"], []),
        ("with recursive a as (select 1 union all select * from a) select * from a", [], []),
        ("with a as (select 1) select * from a, s.a", ["s.a"], []),
        ("with a as (select 1) insert into a select * from a", [], ["a"]),
        ("select * from (with a as (select 1) select * from a) x, a", ["a"], []),
        ("execute p", [], []),
    ],
)  # fmt: skip
def test_tables(sql: str, read: list[str], written: list[str]) -> None:
    """As they are written, folded and quoted as PostgreSQL does; a name that a WITH hides is no table."""
    tables = classify(sql.encode()).tables
    assert sorted(name for name, changed in tables if not changed) == sorted(read)
    assert sorted(name for name, changed in tables if changed) == sorted(written)


def test_functions() -> None:
    """Where they are called by name."""
    parsed = classify(b"select pg_read_file('/etc/passwd'), S.f(g(1)) from generate_series(1, 2) where \"H\"(1)")
    assert sorted(parsed.functions) == ['"H"', "g", "generate_series", "pg_read_file", "s.f"]


@pytest.mark.parametrize("sql", ["selec 1", "select 'open", "select 1;;; nonsense", "\x00", "CREATE FUNCTION f("])
def test_what_does_not_parse(sql: str) -> None:
    """That is a label, and nothing is known."""
    assert classify(sql.encode()) in (Parsed(label=Label.UNPARSED), Parsed())


def test_bytes_that_are_no_utf_8() -> None:
    """The commands and the structure hold, and names are shown as records show such bytes."""
    parsed = classify("delete from t\xe4ble where a = '\xff'".encode("latin-1"))
    assert parsed == Parsed(classes=["DELETE"], tables=[('"t\\xe4ble"', True)])


def test_a_deep_tree() -> None:
    """Deeper than protobuf would read by itself, and than Python's stack is."""
    sum_of_many = "+".join(["1"] * 3_000)
    assert classify(f"select {sum_of_many} from t".encode()) == Parsed(classes=["SELECT"], tables=[("t", False)])


def test_many_names() -> None:
    """Those beyond the limit are cut, and the label says so."""
    tables = ", ".join(f"t{number}" for number in range(MOST_NAMES + 1))
    parsed = classify(f"lock table {tables}".encode())
    assert (len(parsed.tables), parsed.label) == (MOST_NAMES, Label.CUT)
