"""The command with everything real behind it: control, a proxy, PostgreSQL, and PostgreSQL's own psql."""

import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.binaries import postgresql_bin
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.processes import Process
from tests.harness.waiting import eventually_sync
from tests.integration.client.person import PYTHON, Person
from tests.integration.client.test_access import granted, listed
from tests.integration.whole.stand import Whole, secret


@pytest.fixture(scope="module")
def whole(postgres: Cluster, ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    """Control and a joined proxy in front of `postgres`."""
    with Whole(postgres, ca, tmp_path_factory.mktemp("whole")) as running:
        yield running


@pytest.fixture
def people(whole: Whole, tmp_path: Path) -> dict[str, Person]:
    """Everybody, each with a home of their own, psql in PATH and the proxy's authority named."""
    made = {}
    for name in ("dba1", "carol", "eve", "root"):
        made[name] = Person(home=tmp_path / name, variables=whole.service.variables(name))
        made[name].home.mkdir()
        made[name].variables["PATH"] = f"{postgresql_bin()}:{made[name].environment['PATH']}"
        made[name].variables["PGSSLROOTCERT"] = str(whole.service.ca_file)
    return made


def psql(person: Person, *arguments: str, **variables: str) -> str:
    """What psql says to `SELECT current_setting('curfew.person')`, with nothing but these to connect by."""
    query = ("-XAtw", "-c", "SELECT current_setting('curfew.person')")
    environment = person.environment | variables
    done = subprocess.run(
        ["psql", *query, *arguments], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout.strip() or done.stderr


def test_psql_connects_by_every_form_of_a_token(people: dict[str, Person]) -> None:
    """Password file, service file, URI, environment and the line for the shell: each is enough by itself."""
    dba = people["dba1"]
    grant = granted(dba, people["carol"])

    def written(form: str) -> str:
        return dba.ok("token", grant, "--format", form, "--sslrootcert", dba.variables["PGSSLROOTCERT"]).strip()

    secret(dba.home / "pgpass", written("pgpass"))
    host, port, database = written("pgpass").split(":")[:3]
    place = f"host={host} port={port} dbname={database} user=dba1 sslmode=verify-full"
    assert psql(dba, place, PGPASSFILE=str(dba.home / "pgpass")) == "dba1"
    secret(dba.home / "service", written("service"))
    assert psql(dba, "service=orders", PGSERVICEFILE=str(dba.home / "service")) == "dba1"
    assert psql(dba, written("uri")) == "dba1"
    exported = (shlex.split(line)[1].partition("=") for line in written("env").splitlines())
    assert psql(dba, **{name: value for name, _, value in exported}) == "dba1"
    assignment, _, conninfo = shlex.split(written("psql"))
    name, _, value = assignment.partition("=")
    assert psql(dba, conninfo, **{name: value}) == "dba1"


def test_a_session_is_connected_replayed_and_verified(people: dict[str, Person]) -> None:
    """From `connect` to the proof, each by the person whose part it is."""
    dba, eve = people["dba1"], people["eve"]
    grant = granted(dba, people["carol"], "--for", "10m")
    done = dba.run(
        "connect", "orders", "--grant", grant, "--", "-Xc", "SELECT 'a\x1b[2J'", "-c", "SELECT * FROM nowhere"
    )
    assert done.returncode == 1
    assert 'relation "nowhere" does not exist' in done.stderr

    def ended() -> str:
        listed = json.loads(eve.ok("sessions", "--grant", grant, "--state", "ended", "--json"))["items"]
        return str(listed[0]["id"]) if listed else ""

    session = eventually_sync(ended, within=30)
    shown = eve.ok("replay", session)
    assert "> SELECT 'a\\x1b[2J'\n" in shown
    assert "SUCCESS (1 row, " in shown
    assert 'ERROR 42P01 relation "nowhere" does not exist (' in shown
    assert "END closed; open work: nothing open" in shown
    proxies = people["root"].run("verify", session)
    assert f"ok: session {session}: " in proxies.stdout
    assert "2 statements, chain whole, signed by proxy edge" in proxies.stdout


def test_a_session_is_run_again(people: dict[str, Person], postgres: Cluster, database: str) -> None:
    """By its id or by its grant, once the records are proven to be in the log; the DSN's password is shown nowhere."""
    dba, eve = people["dba1"], people["eve"]
    grant = granted(dba, people["carol"], "--for", "10m")
    done = dba.run("connect", "orders", "--grant", grant, "--", "-Xqc", "SELECT 1", "-c", "SELECT * FROM nowhere")
    assert done.returncode == 1

    def ended() -> str:
        listed = json.loads(eve.ok("sessions", "--grant", grant, "--state", "ended", "--json"))["items"]
        return str(listed[0]["id"]) if listed else ""

    session = eventually_sync(ended, within=30)
    against = ("--against", postgres.dsn(database=database))
    unasked = eve.refused("replay", session, *against)
    assert f"2 statements of 1 sessions will be executed in {database} at 127.0.0.1:" in unasked
    again = eve.run("replay", "--grant", grant, *against, "--yes")
    assert again.returncode == 0, again.stderr
    assert again.stdout.endswith(": as recorded\n")
    assert postgres.password not in unasked + again.stdout + again.stderr


def test_a_revoked_grant_ends_its_session(people: dict[str, Person]) -> None:
    """The client is told why, and the listing says how soon the backend was gone."""
    dba, carol = people["dba1"], people["carol"]
    grant = granted(dba, carol, "--for", "10m")
    line = [PYTHON, "-m", "control.client.cli", "connect", "orders", "--grant", grant]
    query = "UPDATE pg_temp.t SET i = 1 WHERE pg_sleep(60) IS NULL"
    with Process(
        [*line, "--", "-Xc", f"CREATE TEMP TABLE t AS SELECT 1 AS i; {query}"], environment=dba.environment
    ) as run:

        def runs() -> bool:
            shown = json.loads(carol.ok("sessions", "--grant", grant, "--state", "open", "--json"))
            return any(one["running_since"] for one in shown["items"])

        eventually_sync(runs, within=30)
        proof = carol.ok("revoke", grant, "--reason", "enough")
        assert "dba1 on orders/postgres: revoked by carol, rolled back, gone in " in proof
        assert "1 session ended, proven after " in proof
        run.wait(within=30)
        assert "FATAL" in run.output
        assert "revoked by carol" in run.output
    eventually_sync(
        lambda: "revoked by carol, rolled back, gone in " in carol.ok("sessions", "--grant", grant, "--state", "ended"),
        within=30,
    )


def test_a_lock_ends_sessions_and_an_extension_prolongs_them(people: dict[str, Person]) -> None:
    """The books follow what the proxy does: the new end of what runs, then the proof that it is over."""
    dba, carol = people["dba1"], people["carol"]
    grant = granted(dba, carol, "--for", "10m")
    line = [
        PYTHON,
        "-m",
        "control.client.cli",
        "connect",
        "orders",
        "--grant",
        grant,
        "--",
        "-Xc",
        "SELECT pg_sleep(60)",
    ]

    def running() -> dict[str, str]:
        listed = json.loads(carol.ok("sessions", "--grant", grant, "--state", "open", "--json"))["items"]
        return dict(listed[0]) if listed and listed[0]["running_command"] == "SELECT" else {}

    with Process(line, environment=dba.environment) as run:
        before = eventually_sync(running, within=30)
        carol.ok("approve", dba.ok("extend", grant, "--for", "20m", "--reason", "x").split()[0])
        ends = next(one["expires_at"] for one in listed(dba, "grants") if one["id"] == grant)
        assert before["expires_at"] < ends
        eventually_sync(lambda: running()["expires_at"] == ends, within=30)
        lock = carol.run("lock", "--person", "dba1", "--reason", "a leak")
        lock_id = lock.stderr.partition("`curfew unlock ")[2].partition("`")[0]
        try:
            assert (
                f"ended {before['id']}: dba1 on orders/postgres: locked by carol, rolled back, gone in " in lock.stdout
            )
            assert lock.returncode == 0
            run.wait(within=30)
            assert "FATAL" in run.output
            assert "Locked: person dba1 is locked by carol" in dba.refused("connect", "orders", "--grant", grant)
        finally:
            carol.ok("unlock", lock_id)
    done = dba.run("connect", "orders", "--grant", grant, "--", "-XAtc", "SELECT 'in again'")
    assert "in again" in done.stdout
