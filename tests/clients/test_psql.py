"""psql: scripts, COPY both ways, Ctrl-C, errors, and the token in each place that it reads a password from."""

import asyncio
import signal
from pathlib import Path

import pytest

from proxy.contract.record import Cancel, Copy, StatementEnd, StatementStart
from tests.clients.stand import Stand
from tests.harness import roles
from tests.harness.binaries import postgresql_bin
from tests.harness.processes import run
from tests.harness.terminal import on_terminal
from tests.harness.waiting import eventually


async def test_several_statements_in_one_message(stand: Stand) -> None:
    """One Query of three statements is one record, with the three tags."""
    assert stand.psql("CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2); SELECT sum(n) FROM t") == "3\n"
    await stand.assert_recorded()
    ends = [one for one in await stand.records() if isinstance(one, StatementEnd)]
    assert [(one.tags, one.rows) for one in ends] == [(["CREATE TABLE", "INSERT 0 2", "SELECT 1"], 3)]


async def test_error_inside(stand: Stand) -> None:
    """What came before the error is undone with it, psql shows PostgreSQL's own words, and both are recorded."""
    said = stand.run("psql", "-X", "-c", "CREATE TABLE t (n int); SELECT 1/0; SELECT 2", check=False)
    assert said == "CREATE TABLE\nERROR:  division by zero\n"
    assert stand.psql("SELECT to_regclass('t') IS NULL") == "t\n"
    end = next(one for one in await stand.records() if isinstance(one, StatementEnd))
    assert (end.tags, end.sqlstate, end.message, end.state) == (["CREATE TABLE"], "22012", "division by zero", "I")


async def test_script(stand: Stand) -> None:
    """A file with transactions, comments, dollar quotes, psql's own commands and odd characters."""
    script = """\\set who 'Zoë'
BEGIN; -- a comment; with a semicolon
CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $f$ SELECT 'a;b' $f$;
SELECT f(), :'who', E'\\t\\\\', U&'\\0441';
SAVEPOINT s; SELECT 1/0; ROLLBACK TO s;
COMMIT;
\\d
SELECT 'SELECT ' || n FROM generate_series(1, 3) n \\gexec
"""
    said = stand.run("psql", "-X", "-A", "-t", "-f", "-", text=script)
    assert "a;b|Zoë|\t\\|\u0441" in said
    await stand.assert_recorded()


@pytest.mark.parametrize("rows", [0, 1, 20_000])
async def test_copy(stand: Stand, tmp_path: Path, rows: int) -> None:
    """COPY out and in again by psql: the same bytes, counted in the record."""
    path = tmp_path / "rows"
    stand.psql(
        f"CREATE TABLE t AS SELECT n, md5(n::text) AS h, NULL::int AS e FROM generate_series(1, {rows}) n",
        f"\\copy t TO '{path}'",
        "CREATE TABLE u (LIKE t)",
        f"\\copy u FROM '{path}'",
        "TABLE t EXCEPT TABLE u",
    )
    assert stand.psql("SELECT count(*) FROM u") == f"{rows}\n"
    await stand.assert_recorded()
    copies = [one for one in await stand.records() if isinstance(one, Copy)]
    size = path.stat().st_size
    assert [(one.direction, one.bytes, one.failed) for one in copies] == [("out", size, False), ("in", size, False)]


async def test_copy_that_fails(stand: Stand, tmp_path: Path) -> None:
    """A bad row in the middle: PostgreSQL's error, nothing copied, and the session goes on."""
    path = tmp_path / "rows"
    path.write_text("1\n" * 5_000 + "x\n" + "1\n" * 50_000)
    said = stand.run(
        "psql", "-X", "-A", "-t", "-c", "CREATE TABLE t (n int)", "-c", f"\\copy t FROM '{path}'",
        "-c", "SELECT count(*) FROM t", check=False,
    )  # fmt: skip
    assert 'invalid input syntax for type integer: "x"' in said
    assert said.startswith("CREATE TABLE\n0\n")  # standard output comes first
    copies = [one for one in await stand.records() if isinstance(one, Copy)]
    assert [(one.direction, one.failed) for one in copies] == [("in", True)]


async def test_ctrl_c(stand: Stand) -> None:
    """SIGINT during a query, with sslmode=verify-full: psql's cancel request goes in clear, and arrives."""
    with stand.start("psql", "-X", "-c", "SELECT pg_sleep(60)") as psql:
        sleeping = "SELECT FROM pg_stat_activity WHERE datname = $1 AND wait_event = 'PgSleep'"

        async def sleeps() -> bool:
            return bool(await stand.cluster.sql(sleeping, stand.database))

        await eventually(sleeps)
        psql.signal(signal.SIGINT)
        psql.wait_for_output("ERROR:  canceling statement due to user request")
        assert psql.wait() == 1
    records = await stand.records()
    cancels = [(one.forwarded, one.statement) for one in records if isinstance(one, Cancel)]
    assert cancels == [(True, 1)]
    ends = [one.sqlstate for one in records if isinstance(one, StatementEnd)]
    assert ends == ["57014"]


async def test_password_of_a_role(stand: Stand) -> None:
    """A new role's password is not in the record, which says that it left something out."""
    role = f"{stand.database}_role"
    said = stand.run("psql", "-X", "-c", f"CREATE ROLE {role} PASSWORD 'canary-4711'", check=False)
    assert "permission denied" in said
    started = next(one for one in await stand.records() if isinstance(one, StatementStart))
    assert (started.masked, "canary" in started.sql, role in started.sql) == (True, False, True)
    assert b"canary" not in b"".join(stand.proxy.lines())


@pytest.mark.parametrize("sslmode", ["allow", "prefer", "require", "verify-ca", "verify-full"])
async def test_sslmode(stand: Stand, sslmode: str) -> None:
    """With each, TLS it is: `allow` tries in clear first, and again when it is told that TLS is required."""
    command = (postgresql_bin() / "psql", "-X", "-c", "\\conninfo")
    assert "SSL connection" in run(command, environment={**stand.environment, "PGSSLMODE": sslmode}).stdout


async def test_typed_at_the_prompt(stand: Stand) -> None:
    """On a terminal, whose line has room for 4,095 bytes: the longest token that there may be fits in."""
    token = stand.proxy.token(databases=(stand.database, *(number * 63 for number in "1234")))
    assert 700 < len(token) <= 1_000
    bare = {name: value for name, value in stand.environment.items() if name != "PGPASSWORD"}
    command = [
        str(postgresql_bin() / "psql"),
        "-X",
        "-P",
        "pager=off",
        "-A",
        "-t",
        "-c",
        "SELECT 'in as ' || current_user",
    ]
    status, screen = await asyncio.to_thread(on_terminal, command, bare, {"Password for user dba1: ": token + "\n"})
    assert (status, f"in as {roles.APP.user}" in screen) == (0, True), screen
    assert token not in screen


@pytest.mark.parametrize("way", ["environment", "passfile", "service", "uri"])
async def test_where_the_token_stands(stand: Stand, tmp_path: Path, way: str) -> None:
    """Wherever psql reads a password from, the token fits in."""
    bare = {name: value for name, value in stand.environment.items() if name != "PGPASSWORD"}
    command: list[str | Path] = [postgresql_bin() / "psql", "-X", "-A", "-t", "-c", "SELECT current_user"]
    if way == "environment":
        bare["PGPASSWORD"] = stand.token
    elif way == "passfile":
        line = f"localhost:{stand.proxy.port}:{stand.dbname}:dba1:{stand.token}\n"
        bare["PGPASSFILE"] = str(written(tmp_path / "pass", line))
    elif way == "service":
        bare["PGSERVICEFILE"] = str(written(tmp_path / "service", f"[mine]\npassword={stand.token}\n"))
        bare["PGSERVICE"] = "mine"
    else:
        command += ["-d", f"postgresql://dba1:{stand.token}@localhost:{stand.proxy.port}/orders%2F{stand.database}"]
    assert run(command, environment=bare).stdout == f"{roles.APP.user}\n"


def written(path: Path, text: str) -> Path:
    """A file of mode 0600."""
    path.touch(mode=0o600)
    path.write_text(text)
    return path
