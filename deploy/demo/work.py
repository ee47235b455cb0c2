"""Scenes in which PostgreSQL's own programs and a driver work through the proxy, as if it were not there."""

import asyncio
import re
import signal
import ssl
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import asyncpg

from deploy.demo.play import Step
from deploy.demo.stage import Granted, Stage
from deploy.demo.watch import Watch
from tests.harness.binaries import postgresql_bin
from tests.harness.processes import Process, run

SCALE, CLIENTS, TRANSACTIONS = 2, 4, 100
NO_CONNECTION = 2
"""What psql exits with."""
GIFTS = 8
"""What orders.sql has of them below 250."""
ACCOUNTS_PER_SCALE = 100_000
"""pgbench's naccounts."""
_RESTRICT = re.compile(r"^\\(un)?restrict .*\n", re.MULTILINE)
"""A key that pg_dump draws anew each time (since 2025-08, CVE-2025-8714)."""


def refuse_wrong_token(granted: Granted, step: Step) -> None:
    """One character changed: refused before anything reaches PostgreSQL."""
    good = granted.environment["PGPASSWORD"]
    middle = len(good) - 20
    wrong = good[:middle] + ("A" if good[middle] != "A" else "B") + good[middle + 1 :]
    refused(granted, "password")
    step.show(refused(granted, wrong))


def refused(granted: Granted, token: str) -> str:
    """What psql prints where this token is not accepted. AssertionError where it is."""
    done = client(granted, "psql", "-X", "-c", "SELECT 1", application="demo-refused", PGPASSWORD=token)
    assert done.returncode == NO_CONNECTION, f"psql gave {done.returncode}:\n{done.stdout}{done.stderr}"
    assert "access refused: the token is not valid for this connection" in done.stderr, done.stderr
    return done.stderr


def connect_psql(granted: Granted, step: Step) -> None:
    """An unchanged psql: the name in the certificate is checked, and the database knows for whom it works."""
    sql = (
        "SELECT current_user, current_setting('curfew.person') AS person, current_setting('curfew.grant') AS \"grant\";"
        " SELECT status, count(*), sum(total) FROM orders GROUP BY status ORDER BY status"
    )
    done = client(granted, "psql", "-X", "-c", sql, application="demo-psql")
    assert done.returncode == 0, done.stderr
    for expected in ("curfew_dba", "dba1", granted.id, "(3 rows)"):
        assert expected in done.stdout, done.stdout
    step.show(done.stdout.replace("\n\n", "\n"))


def connect_asyncpg(stage: Stage, granted: Granted, step: Step) -> None:
    """A driver of another make, with the extended protocol and binary values."""
    step.found = asyncio.run(_ask(granted, stage.authority.client_context()))


async def _ask(granted: Granted, context: ssl.SSLContext) -> str:
    names = ("host", "port", "user", "database", "password")
    known = {name: granted.environment[f"PG{name.upper()}"] for name in names}
    settings = {"application_name": "demo-asyncpg"}
    connection = await asyncpg.connect(**known, ssl=context, server_settings=settings)
    try:
        rows = await connection.fetch("SELECT id FROM orders WHERE total < $1 AND note IS NOT NULL", 250)
        assert len(rows) == GIFTS, rows
        return f"{len(rows)} rows"
    finally:
        await connection.close()


def load_pgbench(granted: Granted, watch: Watch, step: Step) -> None:
    """`pgbench -i`: its schema, made and filled by COPY."""
    run_client(granted, "pgbench", "-i", "-s", str(SCALE), "-q", application="demo-load")
    loaded = watch.value("SELECT count(*) FROM pgbench_accounts")
    assert loaded == SCALE * ACCOUNTS_PER_SCALE, loaded
    step.found = f"{loaded:,} rows"


def run_pgbench(granted: Granted, watch: Watch, step: Step) -> None:
    """`pgbench`, by simple queries and by prepared statements."""
    rates, wanted = [], CLIENTS * TRANSACTIONS
    for mode in ("simple", "prepared"):
        load = ["-c", str(CLIENTS), "-j", "2", "-t", str(TRANSACTIONS), "-M", mode]
        printed = run_client(granted, "pgbench", *load, application="demo-pgbench")
        found = re.search(r"^tps = ([\d.]+)", printed, re.MULTILINE)
        assert found, printed
        rates.append(f"{float(found[1]):.0f} a second {mode}")
        done = watch.value("SELECT count(*) FROM pgbench_history")  # which pgbench empties before it runs
        assert done == wanted, f"{done} of {wanted} transactions have left their mark"
    step.found = f"{wanted} transactions, {' and '.join(rates)}"


def dump_and_restore(stage: Stage, granted: Granted, step: Step) -> None:
    """`pg_dump` of the one database, restored by psql into the other, dumped again: no difference."""
    first, second = stage.folder / "orders.sql", stage.folder / "orders_copy.sql"
    copy = f"{granted.environment['PGDATABASE']}/orders_copy"
    run_client(granted, "pg_dump", "-f", str(first), application="demo-dump")
    restore = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(first)]
    run_client(granted, "psql", *restore, application="demo-restore", PGDATABASE=copy)
    run_client(granted, "pg_dump", "-f", str(second), application="demo-dump", PGDATABASE=copy)
    one, other = (_RESTRICT.sub("", path.read_text()) for path in (first, second))
    assert "COPY public.orders " in one, "the dump has no orders"
    assert one == other, f"{first} and {second} differ"
    step.found = f"two dumps of {len(one):,} characters, the same"


def cancel(granted: Granted, watch: Watch, step: Step) -> None:
    """Ctrl-C in psql, as the terminal sends it."""
    command: list[str | Path] = [postgresql_bin() / "psql", "-X", "-c", "SELECT pg_sleep(60)"]
    with Process(command, environment=variables(granted, "demo-cancel")) as psql:
        watch.running("demo-cancel")
        began = time.monotonic()
        psql.signal(signal.SIGINT)
        psql.wait()
        took = time.monotonic() - began
        said = psql.output
    assert "canceling statement due to user request" in said, said
    assert took < 1, f"it took {took:.2f} s"
    step.found = f"after {took * 1000:.0f} ms"
    step.show(said)


# --- PostgreSQL's programs


def run_client(granted: Granted, program: str, *arguments: str, application: str, **changes: str) -> str:
    """What a program prints. AssertionError where it fails."""
    done = client(granted, program, *arguments, application=application, **changes)
    assert done.returncode == 0, f"{program} gave {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def client(
    granted: Granted, program: str, *arguments: str, application: str, **changes: str
) -> subprocess.CompletedProcess[str]:
    """One of PostgreSQL's programs at its end, connected on the grant, with changed variables."""
    command: Sequence[str | Path] = [postgresql_bin() / program, *arguments]
    return run(command, environment={**variables(granted, application), **changes}, check=False)


def variables(granted: Granted, application: str) -> Mapping[str, str]:
    """The environment that the grant's token gives, with a name to be known by."""
    return {**granted.environment, "PGAPPNAME": application}


def keywords(granted: Granted, application: str) -> dict[str, str]:
    """The same as libpq's keywords, for a driver that stands on it."""
    named = {"host": "HOST", "port": "PORT", "user": "USER", "dbname": "DATABASE", "password": "PASSWORD"}
    named |= {"sslmode": "SSLMODE", "sslrootcert": "SSLROOTCERT", "application_name": "APPNAME"}
    return {name: variables(granted, application)[f"PG{variable}"] for name, variable in named.items()}
