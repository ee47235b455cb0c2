"""Recorder evasion: whatever is done with names, portals and errors, the record has what PostgreSQL executed.

PostgreSQL's own log is the witness: the texts of the statements that succeeded must be the same, in the same order.
"""

import pytest

from proxy.contract.record import StatementEnd, StatementPrepare, StatementStart, decode
from tests.harness import roles
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.serverlog import read_log
from tests.harness.waiting import eventually
from tests.harness.wire import FLUSH, SYNC, TERMINATE, Wire, bind, execute, message, one_by_one, parse, query

ROUND = execute() + SYNC


def close(kind: str, name: str) -> bytes:
    """A Close of a statement (S) or a portal (P)."""
    return message("C", kind.encode() + name.encode() + b"\0")


SCRIPTS = {
    "the unnamed statement, parsed again before it is executed": (
        parse("SELECT 'first'") + bind() + parse("SELECT 'second'") + execute() + bind() + ROUND
    ),
    "one text, many executions": parse("SELECT $1", "a") + (bind("1", name="a") + execute()) * 20 + SYNC,
    "portals in another order": (
        parse("SELECT 'a'", "a") + parse("SELECT 'b'", "b")
        + bind(name="a", portal="p") + bind(name="b", portal="q") + execute("q") + execute("p") + SYNC
    ),
    "the unnamed portal, bound again": (
        parse("SELECT 'a'", "a") + parse("SELECT 'b'", "b") + bind(name="a") + bind(name="b") + ROUND
    ),
    "a name that is taken": (
        parse("SELECT 'true'", "s") + SYNC + parse("SELECT 'false'", "s") + SYNC + bind(name="s") + ROUND
    ),
    "a name that is taken, in one pipeline": (
        parse("SELECT 'true'", "s") + SYNC + parse("SELECT 'false'", "s") + bind(name="s") + execute() + SYNC
        + bind(name="s") + ROUND
    ),
    "a Parse that was skipped": (
        parse("SELECT 'true'", "s") + SYNC + one_by_one("SELECT 1/0") + close("S", "s") + parse("SELECT 'false'", "s")
        + SYNC + bind(name="s") + ROUND
    ),
    "a Close that was skipped, and the name again": (
        parse("SELECT 'true'", "s") + SYNC + one_by_one("SELECT 1/0") + close("S", "s") + SYNC
        + parse("SELECT 'false'", "s") + SYNC + bind(name="s") + ROUND
    ),
    "a Parse with an error": parse("SELEC", "s") + SYNC + parse("SELECT 'right'", "s") + bind(name="s") + ROUND,
    "a Parse with an error, of the unnamed statement": (
        parse("SELECT 'old'") + SYNC + parse("SELEC") + SYNC + bind() + ROUND + one_by_one("SELECT 'alive'") + SYNC
    ),
    "closed and parsed anew": (
        parse("SELECT 'old'", "s") + bind(name="s") + execute() + close("S", "s")
        + parse("SELECT 'new'", "s") + bind(name="s") + ROUND
    ),
    "a portal whose statement was closed": (
        parse("SELECT 'held'", "s") + bind(name="s", portal="p") + close("S", "s")
        + parse("SELECT 'other'", "s") + execute("p") + SYNC
    ),
    "a portal over several rounds": (
        query("BEGIN") + parse("SELECT generate_series(1, 5)", "s") + bind(name="s", portal="p")
        + execute("p", 2) + SYNC + one_by_one("SELECT 'between'") + SYNC + execute("p", 2) + SYNC + query("COMMIT")
    ),
    "a portal that an error took away": (
        query("BEGIN") + parse("SELECT 'not 1/0, but gone'", "s") + bind(name="s", portal="p") + SYNC
        + query("SELECT 1/0") + execute("p") + SYNC + query("ROLLBACK")
    ),
    "a portal that outlives an error behind a savepoint": (
        query("BEGIN") + parse("SELECT 'true'", "s") + bind(name="s", portal="p") + SYNC + query("SAVEPOINT x")
        + parse("SELECT 'false'", "t") + bind(name="t", portal="p") + SYNC + query("ROLLBACK TO x")
        + execute("p") + SYNC + query("COMMIT")
    ),
    "a portal's Close that was skipped": (
        query("BEGIN") + parse("SELECT 'true'", "s") + bind(name="s", portal="p") + SYNC + query("SAVEPOINT x")
        + one_by_one("SELECT 1/0") + close("P", "p") + SYNC + query("ROLLBACK TO x") + execute("p") + SYNC
        + query("COMMIT")
    ),
    "names that are the same to PostgreSQL": (
        parse("SELECT 'true'", "x" * 63 + "a") + SYNC + parse("SELECT 'false'", "x" * 63 + "b") + SYNC
        + bind(name="x" * 63 + "b") + ROUND
    ),
    "deallocated by SQL": (
        parse("SELECT 'old'", "s") + SYNC + query("DEALLOCATE s") + bind(name="s") + execute() + SYNC
        + parse("SELECT 'new'", "s") + bind(name="s") + ROUND
    ),
    "all discarded by SQL": (
        parse("SELECT 'old'", "s") + SYNC + query("DISCARD ALL") + parse("SELECT 'new'", "s") + bind(name="s") + ROUND
    ),
    "a Query takes the unnamed statement away": (
        parse("SELECT 'old'") + SYNC + query("SELECT 'between'") + bind() + ROUND
    ),
    "an unnamed statement behind a Parse that was skipped": (
        parse("SELECT 'hidden'") + bind(name="missing") + parse("SELECT 'shown'") + SYNC + bind() + ROUND
    ),
    "an unnamed statement behind a Close that was skipped": (
        parse("SELECT 'hidden'") + bind(name="missing") + close("S", "") + SYNC + bind() + ROUND
    ),
    "Flush instead of Sync": (
        one_by_one("SELECT 'a'") + FLUSH + one_by_one("SELECT 'b'") + FLUSH + SYNC + one_by_one("SELECT 'c'") + SYNC
    ),
    "Sync after Sync": SYNC * 5 + one_by_one("SELECT 'a'") + SYNC * 5 + query("SELECT 'b'") + SYNC,
    "a Query behind an Execute without Sync": one_by_one("SELECT 'a'") + query("SELECT 'b'") + SYNC,
    "transactions by the extended protocol": b"".join(
        one_by_one(text) for text in ("BEGIN", "SELECT 'in'", "SAVEPOINT x", "ROLLBACK TO x", "COMMIT", "SELECT 'out'")
    ) + SYNC,
    "empty statements": query("") + query(" ; ; ") + query("SELECT 'a'"),
    "odd names": (
        parse("SELECT 'odd'", "Zoë \"'; DROP") + bind(name="Zoë \"'; DROP", portal="\t\x7f") + execute("\t\x7f") + SYNC
    ),
    "the rest of a pipeline behind an error": (
        one_by_one("SELECT 'a'") + one_by_one("SELECT 1/0") + one_by_one("SELECT 'skipped'") + SYNC
        + one_by_one("SELECT 'b'") + SYNC
    ),
    "an error at Bind": (
        parse("SELECT $1::int", "s") + bind("x", name="s") + execute() + SYNC + bind("1", name="s") + ROUND
    ),
    "an error at Sync": (
        query("CREATE TEMP TABLE u (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        + one_by_one("INSERT INTO u VALUES (1), (1) -- as bad as 1/0") + SYNC + one_by_one("SELECT 'alive'") + SYNC
    ),
    "many statements in one Query": query("SELECT 'a'; SELECT 'b'; DO $$ BEGIN PERFORM 1; END $$; SELECT ';'"),
}  # fmt: skip
"""Raw conversations. PostgreSQL logs what fails too, if it came to be executed; those texts have a 1/0 in them."""


def rounds(script: bytes) -> list[bytes]:
    """The script in parts that PostgreSQL answers with one ReadyForQuery each."""
    found, begun, at = [], 0, 0
    while at < len(script):
        kind, at = script[at : at + 1], at + 1 + int.from_bytes(script[at + 1 : at + 5])
        if kind in b"QS":
            found.append(script[begun:at])
            begun = at
    return found


AMBIGUOUS = {
    "a name that is taken",
    "a name that is taken, in one pipeline",
    "a Parse that was skipped",
    "a Close that was skipped, and the name again",
    "a portal that outlives an error behind a savepoint",
    "a portal's Close that was skipped",
    "names that are the same to PostgreSQL",
    "an unnamed statement behind a Parse that was skipped",
    "an unnamed statement behind a Close that was skipped",
}
"""What a name means depends here on answers that are still to come when all of the script is sent at once. The record
of the execution then has the meaning that was asked for last; the other one is on record as well, by its Parse."""


async def both_accounts(proxy: Proxy, script: bytes, *, at_once: bool = True) -> tuple[list[str], list[str], set[str]]:
    """Run the script in a session of its own: what succeeded by the record, and by PostgreSQL's log; all texts."""
    grant = new_grant_id()
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token(id=grant))
        if at_once:
            wire.send(script)
        for part in rounds(script):
            if not at_once:
                wire.send(part)
            await wire.until("Z")
        wire.send(TERMINATE)
        await wire.rest()
        pid = wire.pid
    records = [decode(line) for line in await proxy.session_of(grant)]
    good = {one.statement for one in records if isinstance(one, StatementEnd) and not one.sqlstate and not one.skipped}
    recorded = [one.sql for one in records if isinstance(one, StatementStart) and one.statement in good]
    texts = {one.sql for one in records if isinstance(one, StatementStart | StatementPrepare)}
    return recorded, await executed(proxy.cluster, pid), texts


async def executed(cluster: Cluster, pid: int) -> list[str]:
    """The texts that the backend logged as executed, in order."""
    marker = f"SELECT 'end of backend {pid}'"
    await cluster.sql(marker)
    await eventually(lambda: any(line.statement == marker for line in read_log(cluster)))
    lines = [line for line in read_log(cluster) if line.pid == pid and line.user == roles.APP.user]
    return [line.statement for line in lines if line.statement is not None and "1/0" not in line.statement]


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("at_once", [False, True], ids=["round by round", "at once"])
async def test_same_account(guarded: Proxy, name: str, at_once: bool) -> None:  # noqa: FBT001 a table's column
    """The record says what PostgreSQL says."""
    recorded, logged, texts = await both_accounts(guarded, SCRIPTS[name], at_once=at_once)
    assert logged, "nothing was executed"
    assert set(logged) <= texts
    if not (at_once and name in AMBIGUOUS):
        assert recorded == logged


async def test_statement_that_sql_prepared(guarded: Proxy) -> None:
    """PREPARE is on record with its text, and what is executed of it by the protocol with its name."""
    script = query("PREPARE mine AS SELECT 'prepared'") + bind(name="mine") + ROUND + query("EXECUTE mine")
    recorded, logged, _ = await both_accounts(guarded, script)
    assert logged == ["PREPARE mine AS SELECT 'prepared'", "PREPARE mine AS SELECT 'prepared'", "EXECUTE mine"]
    assert recorded[0] == logged[0]
    assert recorded[2] == logged[2]
    named = [one.name for one in guarded.records() if isinstance(one, StatementStart)]
    assert "mine" in named


async def test_cursor_that_sql_declared(guarded: Proxy) -> None:
    """DECLARE is on record with its text, and what is fetched from it by the protocol with its name."""
    script = query("BEGIN") + query("DECLARE mine CURSOR FOR SELECT generate_series(1, 9)") + execute("mine", 3) + SYNC
    recorded, logged, _ = await both_accounts(guarded, script)
    assert len(recorded) == len(logged) == 3
    named = [one.name for one in guarded.records() if isinstance(one, StatementStart)]
    assert "portal mine" in named


async def test_function_call(guarded: Proxy) -> None:
    """The old fast path is on record by the function's OID (here: pg_backend_pid())."""
    grant, pg_backend_pid = new_grant_id(), 2026
    async with await Wire.tls(guarded.port, guarded.ca.client_context()) as wire:
        await wire.log_in(guarded.token(id=grant))
        wire.send(message("F", pg_backend_pid.to_bytes(4) + b"\0\0\0\0\0\0"))
        said = await wire.until("Z")
        assert [one.kind for one in said] == ["V", "Z"]
        assert said[0].body[4:].decode() == str(wire.pid)
    records = [decode(line) for line in await guarded.session_of(grant)]
    calls = [(one.kind, one.function) for one in records if isinstance(one, StatementStart)]
    assert calls == [("function", pg_backend_pid)]
    ends = [one.state for one in records if isinstance(one, StatementEnd)]
    assert ends == ["I"]
