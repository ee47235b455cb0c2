"""A random session about transactions, and whether its records tell of every statement what the tables tell.

Every INSERT has a number of its own, so that the rows that are left in the end say what was committed. `contradictions`
is for tests; `python -m tests.integration.transactions.workload ROUNDS [SEED]` runs many, on its own PostgreSQL.
"""

import asyncio
import itertools
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from control.evidence.transactions import Outcome, Transactions
from proxy.contract.record import AnyRecord, StatementStart, decode
from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.wire import SYNC, TERMINATE, Wire, one_by_one, query

SCHEMA = """
CREATE TABLE work (id bigint PRIMARY KEY);
CREATE TABLE late (id bigint PRIMARY KEY, at bigint REFERENCES work DEFERRABLE INITIALLY DEFERRED);
CREATE PROCEDURE keeps(n bigint) LANGUAGE plpgsql AS 'BEGIN INSERT INTO work VALUES (n); COMMIT; END';
CREATE PROCEDURE drops() LANGUAGE plpgsql AS 'BEGIN ROLLBACK; END';
CREATE PROCEDURE fails(n bigint) LANGUAGE plpgsql AS 'BEGIN INSERT INTO work VALUES (n); COMMIT; PERFORM 1/0; END';
"""
CHUNKS = 60
DEAD = -1
"""A row that there never is: a deferred constraint on it fails at the commit."""
_NUMBERS = itertools.count(1)
_ROW = re.compile(r"\b(?:work VALUES|late VALUES|keeps|fails) ?\((\d+)")


def command(chance: random.Random) -> str:
    """One SQL command."""
    row = next(_NUMBERS)
    name = chance.choice(("a", "b", 'c"', "A"))
    name = f'"{name[:-1]}"' if name.endswith('"') else name
    choices = {
        f"INSERT INTO work VALUES ({row})": 30,
        f"INSERT INTO late VALUES ({row}, {DEAD})": 2,
        "SELECT 1/0": 5,
        "SELECT 1": 2,
        "BEGIN": 12,
        "START TRANSACTION": 2,
        "COMMIT": 10,
        "END": 1,
        "COMMIT AND CHAIN": 3,
        "ROLLBACK": 5,
        "ABORT /* not to a savepoint */": 1,
        "ROLLBACK AND CHAIN": 3,
        f"SAVEPOINT {name}": 10,
        f"savepoint /* */ {name}": 1,
        f"ROLLBACK TO {name}": 6,
        f"rollback work to savepoint {name}": 3,
        f"/* */ ROLLBACK TO {name}": 2,
        f"ROLLBACK /* chain */ TO {name}": 1,
        f"RELEASE {name}": 3,
        f"RELEASE SAVEPOINT {name} -- it\n": 1,
        f"PREPARE TRANSACTION 'g{row}'": 2,
        f"CALL keeps({row})": 3,
        "CALL drops()": 3,
        f"CALL fails({row})": 3,
        f"DO $$ BEGIN INSERT INTO work VALUES ({row}); COMMIT; END $$": 1,
        "VACUUM late": 1,
        "DISCARD ALL": 1,
        "NONSENSE": 1,
    }
    return chance.choices(list(choices), list(choices.values()))[0]


def chunk(chance: random.Random) -> bytes:
    """What is sent in one go: queries of one command or several, pipelines of one round or several, without waiting."""
    said = b""
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        if chance.random() < 0.5:
            said += query("; ".join(command(chance) for _ in range(chance.choice((1, 1, 2, 3, 5)))))
            continue
        for _ in range(chance.choice((1, 1, 2, 4))):
            said += one_by_one(command(chance)).removesuffix(SYNC)
        said += SYNC if chance.random() < 0.9 else b""
    return said


async def contradictions(proxy: Proxy, cluster: Cluster, database: str, seed: int) -> tuple[list[str], Counter[str]]:
    """Have one session. What its records say wrongly, and how often they say what."""
    chance = random.Random(seed)
    grant = new_grant_id()
    async with proxy.wire(proxy.token(id=grant)) as wire:
        for _ in range(CHUNKS):
            # An empty query is answered in a failed transaction too: what comes before its answer is the chunk's.
            wire.send(chunk(chance) + SYNC + query(";"))
            while not any(one.kind == "I" for one in await wire.until("Z")):
                pass
        await farewell(wire, chance)
    lines = await proxy.session_of(grant)
    for row in await cluster.sql("SELECT gid FROM pg_prepared_xacts WHERE database = $1", database):
        await cluster.sql(f"ROLLBACK PREPARED '{row['gid']}'", database=database)
    kept = {row[0] for row in await cluster.sql("SELECT id FROM work UNION SELECT id FROM late", database=database)}
    return judged([decode(line) for line in lines], kept)


async def farewell(wire: Wire, chance: random.Random) -> None:
    """Leave, in one of three ways: politely, politely while something is asked, or not at all."""
    if chance.random() < 0.7:
        wire.send((chunk(chance) if chance.random() < 0.5 else b"") + TERMINATE)
        await wire.rest()
    else:
        wire.send(query(f"INSERT INTO work VALUES ({next(_NUMBERS)}); SELECT pg_sleep(0.01)"))
        await wire.drain()
        wire.cut()


def judged(records: list[AnyRecord], kept: set[int]) -> tuple[list[str], Counter[str]]:
    """Each outcome against the rows."""
    transactions = Transactions()
    told: dict[int, Outcome] = {}
    for record in records:
        for known in transactions.take(record):
            told |= known.statements
    wrong: list[str] = []
    counts: Counter[str] = Counter()
    for record in records:
        if isinstance(record, StatementStart):
            rows = {int(number) for number in _ROW.findall(record.sql)}
            became = told.get(record.statement)
            counts[str(became)] += 1
            if not fits(became, rows, kept):
                wrong.append(f"#{record.statement} {record.sql!r}: {became}, but {rows & kept} of {rows} are there")
    return wrong, counts


def fits(became: Outcome | None, rows: set[int], kept: set[int]) -> bool:
    """Whether the rows agree."""
    match became:
        case "committed":
            return rows <= kept
        case "rolled back" | None:
            return not rows & kept
        case _:
            return True


async def _rounds(seeds: Iterator[int]) -> int:
    authority = Authority(Path(tempfile.mkdtemp()))
    total: Counter[str] = Counter()
    failures = 0
    with Cluster(authority) as cluster:
        roles.install(cluster)
        roles.create_database(cluster, "outcomes")
        proxy = Proxy(cluster=cluster, ca=authority, folder=Path(tempfile.mkdtemp()), database="outcomes")
        cluster.psql(f"SET ROLE {roles.APP.user}; {SCHEMA}", database="outcomes")
        with proxy:
            for seed in seeds:
                wrong, counts = await contradictions(proxy, cluster, "outcomes", seed)
                total += counts
                failures += bool(wrong)
                for line in wrong:
                    print(f"seed {seed}: {line}")  # noqa: T201 a command
    print(dict(total))  # noqa: T201 a command
    return failures


if __name__ == "__main__":
    FIRST = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    sys.exit(min(1, asyncio.run(_rounds(iter(range(FIRST, FIRST + int(sys.argv[1])))))))
