"""Indexing a store that is full, then asking it: each kind of question several times, the first page of each."""

import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from control.config import Configuration, ControlSettings
from control.domain.people import Person, Role
from control.domain.results import Success
from control.evidence.parsing import Parser
from control.operations.indexing import Indexer
from control.operations.search import Query, search
from control.services import Services, assemble
from control.store import statements
from control.times import SECOND
from tests.bench.pressure.finding import Finding, percentile
from tests.bench.search import filling

Say = Callable[[str], None]
AIM_MS = 1_000.0
"""What somebody who looks for something does not mind."""
LIMIT = 100
TOLD_S = 30.0
AUDITOR = Person(name="eve", full_name="Eve", roles=frozenset({Role.AUDITOR}), created_at=0)
Ask = Callable[[random.Random, int], Query]


def _hour(source: random.Random, amount: int) -> tuple[int, int]:
    since = filling.at(source.randrange(amount))
    return since, since + 3_600 * SECOND


def _statement(source: random.Random, amount: int) -> int:
    return source.randrange(amount)


QUESTIONS: Mapping[str, Ask] = {
    "nothing but the newest": lambda _source, _amount: Query(),
    "a person": lambda source, _: Query(person=filling.person(source.randrange(1_000))),
    "a target": lambda source, _: Query(target=filling.target(source.randrange(1_000))),
    "a session": lambda source, amount: Query(session=f"session-{_statement(source, amount) // filling.SESSION}"),
    "a table": lambda source, _: Query(table=filling.table(source.randrange(filling.TABLES))),
    "a table that is changed, by a person": lambda source, _: Query(
        written=filling.table(source.randrange(filling.TABLES)), person=filling.person(source.randrange(1_000))
    ),
    "a rare table": lambda _source, _amount: Query(table="secret_salaries"),
    "a rare class": lambda _source, _amount: Query(class_="drop table"),
    "a class, by a person on a target": lambda source, _: Query(
        class_="insert",
        person=filling.person(number := source.randrange(1_000)),
        target=filling.target(number),
    ),
    "a person and a target that never met": lambda _source, _amount: Query(
        person=filling.person(0), target=filling.target(1)
    ),
    "an SQLSTATE": lambda _source, _amount: Query(sqlstate="23505"),
    "more than 4,900 rows": lambda _source, _amount: Query(rows_over=4_900),
    "more than 100,000 rows": lambda _source, _amount: Query(rows_over=100_000),
    "an hour": lambda source, amount: Query(
        since=(hour := _hour(source, amount))[0],
        until=hour[1],
    ),
    "a class in an hour": lambda source, amount: Query(
        class_="update", since=(hour := _hour(source, amount))[0], until=hour[1]
    ),
    "a frequent text": lambda _source, _amount: Query(text="pgbench_accounts"),
    "a rare text": lambda source, amount: Query(
        text=f"forgotten_{_statement(source, amount) // filling.RARE * filling.RARE + filling.RARE // 2}"
    ),
    "a value": lambda source, _: Query(text=f"customer {source.randrange(9_973)}"),
    "a text that is nowhere": lambda _source, _amount: Query(text="where aid = 9 order by created_at"),
    "a text, by a person in an hour": lambda source, amount: Query(
        text="abalance + 44", person=filling.person(3), since=(hour := _hour(source, amount))[0], until=hour[1]
    ),
}


@asynccontextmanager
async def service(folder: Path) -> AsyncIterator[Services]:
    """The service on the store in a folder, silent."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    settings = ControlSettings(
        state_dir=str(folder), issuer="https://control.example", connect_host="x", plaintext=True
    )
    services = assemble(Configuration(control=settings, targets={}), time.time_ns)
    try:
        yield services
    finally:
        await services.store.close()
        structlog.reset_defaults()


async def index(folder: Path, *, amount: int, say: Say) -> list[Finding]:
    """Index all that is not indexed yet, by the service's own code."""
    path = folder / "control.sqlite3"
    before = path.stat().st_size
    async with service(folder) as services:
        async with services.store.read() as tx:
            first = (await statements.cursor(tx)).next
        parser = Parser()
        indexer = Indexer(services, parser.parse)
        began = told = time.monotonic()
        spent = time.process_time()
        while await indexer.step():
            if time.monotonic() - told > TOLD_S:
                told = time.monotonic()
                async with services.store.read() as tx:
                    done = (await statements.cursor(tx)).next - first
                say(f"indexed: {done // 2} statements, {done / 2 / (told - began):.0f} a second")
        took, busy = time.monotonic() - began, time.process_time() - spent
        await parser.close()
    if not (done := amount - first // 2):
        return []
    size = path.stat().st_size - before
    say(f"indexed: {done} statements in {took:.0f} s; {size >> 20} MiB for it")
    return [
        Finding(what="statements indexed, with nothing beside", measured=done / took, unit="/s"),
        Finding(what="the service's own processor for each", measured=busy / done * 1e6, unit="us"),
        Finding(what="the index, for each statement", measured=size / done, unit="B"),
    ]


async def ask(folder: Path, *, amount: int, rounds: int, say: Say) -> list[Finding]:
    """Every question, its values by one seed."""
    source = random.Random(filling.SEED)
    found: list[Finding] = []
    async with service(folder) as services:
        for name, make in QUESTIONS.items():
            took: list[float] = []
            busy = time.process_time()
            hits, whole = 0, True
            for _ in range(rounds):
                began = time.perf_counter()
                answer = await search(services, make(source, amount), asker=AUDITOR, before=None, limit=LIMIT)
                took.append((time.perf_counter() - began) * 1e3)
                assert isinstance(answer, Success)
                hits = max(hits, len(answer.value.hits))
                whole &= answer.value.before is None or len(answer.value.hits) == LIMIT
            busy = (time.process_time() - busy) / rounds * 1e3
            rest = "" if whole else ", and not all was looked through in the time"
            say(f"{name}: {hits} found, for {busy:.0f} ms of the processor each{rest}")
            found.append(Finding(what=f"{name}: p50", measured=percentile(took, 0.5), unit="ms", aim=AIM_MS))
            found.append(Finding(what=f"{name}: max", measured=max(took), unit="ms"))
    return found
