"""Indexing a store that is full, then asking it: each kind of question several times, the first page of each."""

import gc
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from control.config import Configuration, ControlSettings
from control.domain.people import Person, Role
from control.domain.results import Success
from control.evidence.parsing import Parser
from control.operations.indexing import Indexer, spare_the_collector
from control.operations.search import Query, search
from control.services import Services, assemble
from control.store.index import file
from control.store.index.file import path_beside
from tests.bench.pressure.finding import Finding, percentile
from tests.bench.search import filling
from tests.bench.search.filling import (
    HOUR,
    PEOPLE,
    RARE,
    RARE_PERSON,
    SESSION,
    TABLES,
    TARGETS,
    TOLD_S,
    Filling,
    person,
    table,
    target,
)

Say = Callable[[str], None]
AIM_MS = 1_000.0
"""What somebody who looks for something does not mind."""
LIMIT = 100
AUDITOR = Person(name="eve", full_name="Eve", roles=frozenset({Role.AUDITOR}), created_at=0)
BOOKS = "control.sqlite3"
COLD = 3
Ask = Callable[[random.Random, Filling], Query]


def _hour(source: random.Random, filled: Filling) -> tuple[int, int]:
    since = filled.at(source.randrange(filled.amount))
    return since, since + HOUR


def _month(filled: Filling) -> tuple[int, int]:
    last = filled.at(filled.amount)
    return last - 60 * 24 * HOUR, last - 30 * 24 * HOUR


def _somebody(source: random.Random) -> str:
    return person(source.randrange(PEOPLE))


def _a_table(source: random.Random) -> str:
    return table(source.randrange(TABLES))


def _rare(source: random.Random, filled: Filling) -> str:
    return f"forgotten_{source.randrange(filled.amount) // RARE * RARE + RARE // 2}"


QUESTIONS: Mapping[str, Ask] = {
    "nothing but the newest": lambda _source, _filled: Query(),
    "a person": lambda source, _: Query(person=_somebody(source)),
    "a target": lambda source, _: Query(target=target(source.randrange(TARGETS))),
    "a session": lambda source, filled: Query(session=f"session-{source.randrange(filled.amount // SESSION or 1)}"),
    "a table": lambda source, _: Query(table=_a_table(source)),
    "a table, in the month before last": lambda source, filled: Query(
        table=_a_table(source), since=(month := _month(filled))[0], until=month[1]
    ),
    "a table that is changed, by a person": lambda source, _: Query(written=_a_table(source), person=_somebody(source)),
    "a rare table": lambda _source, _filled: Query(table="secret_salaries"),
    "all of a rare class (DROP TABLE)": lambda _source, _filled: Query(class_="drop table"),
    "all of a rare class (GRANT)": lambda _source, _filled: Query(class_="grant"),
    "a class, by a person on a target": lambda source, _: Query(
        class_="insert", person=_somebody(source), target=target(source.randrange(TARGETS))
    ),
    "two that are common and never meet": lambda _source, _filled: Query(class_="update", rows_over=10),
    "permission denied (42501)": lambda _source, _filled: Query(sqlstate="42501"),
    "permission denied, to a person, on a table": lambda source, _: Query(
        sqlstate="42501", person=_somebody(source), table=_a_table(source)
    ),
    "more than 10,000 rows": lambda _source, _filled: Query(rows_over=10_000),
    "more than 100,000 rows": lambda _source, _filled: Query(rows_over=100_000),
    "an hour": lambda source, filled: Query(since=(hour := _hour(source, filled))[0], until=hour[1]),
    "a person in an hour": lambda source, filled: Query(
        person=person(source.randrange(10)), since=(hour := _hour(source, filled))[0], until=hour[1]
    ),
    "a frequent text": lambda _source, _filled: Query(text="pgbench_accounts"),
    "a frequent text, by a rare person": lambda _source, _filled: Query(text="pgbench_accounts", person=RARE_PERSON),
    "a frequent text, where it is not": lambda _source, _filled: Query(text="abalance", class_="insert"),
    "a rare text (salary)": lambda _source, _filled: Query(text="salary"),
    "a very rare text": lambda source, filled: Query(text=_rare(source, filled)),
    "a rare text, by whoever does most": lambda _source, _filled: Query(text="salary", person=person(0)),
    "a value": lambda source, _: Query(text=f"customer {source.randrange(9_973)}"),
    "a text of common parts that is nowhere": lambda _source, _filled: Query(text="where aid = 9 order by created_at"),
    "a text, by a person in an hour": lambda source, filled: Query(
        text="abalance + 44", person=person(3), since=(hour := _hour(source, filled))[0], until=hour[1]
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


async def index(folder: Path, *, filled: Filling, say: Say) -> list[Finding]:
    """Index all that is not indexed yet, by the indexer's own code, in this process."""
    thresholds = gc.get_threshold()
    spare_the_collector()
    books = folder / BOOKS
    path = path_beside(books)
    parser = Parser()
    indexer = Indexer(books, path, parser.parse_all)
    try:
        began = told = time.monotonic()
        spent = time.process_time()
        first = file.cursor(indexer.index).next
        while await indexer.step():
            if time.monotonic() - told > TOLD_S:
                told = time.monotonic()
                done = file.cursor(indexer.index).next - first
                say(f"indexed: {done // 2} statements, {done / 2 / (told - began):.0f} a second")
        took, busy = time.monotonic() - began, time.process_time() - spent
        indexer.index.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        indexer.close()
        await parser.close()
        gc.set_threshold(*thresholds)
        gc.unfreeze()
    if not (done := filled.amount - first // 2):
        return []
    size = path.stat().st_size
    say(f"indexed: {done} statements in {took:.0f} s; {size >> 20} MiB for it")
    return [
        Finding(what="statements indexed, with nothing beside", measured=done / took, unit="/s"),
        Finding(what="the indexer's processor for each", measured=busy / done * 1e6, unit="us"),
        Finding(what="the index, for each statement", measured=size / done, unit="B"),
    ]


async def ask(folder: Path, *, filled: Filling, rounds: int, say: Say) -> list[Finding]:
    """Every question, its values by one seed: cold, with nothing of the store in memory, and warm."""
    source = random.Random(filling.SEED)
    found: list[Finding] = []
    async with service(folder) as services:
        for name, make in QUESTIONS.items():
            cold = []
            for _ in range(min(COLD, rounds)):
                _forget(folder)
                cold.append(await _ask_once(services, make(source, filled)))
            busy = time.process_time()
            warm = [await _ask_once(services, make(source, filled)) for _ in range(rounds)]
            busy = (time.process_time() - busy) / rounds * 1e3
            hits = max(one.hits for one in warm)
            rest = "" if all(one.whole for one in warm) else ", and not all was looked through in the time"
            say(f"{name}: {hits} found, for {busy:.0f} ms of the processor each{rest}")
            took = [one.ms for one in warm]
            found.append(Finding(what=f"{name}: cold", measured=max(one.ms for one in cold), unit="ms"))
            found.append(Finding(what=f"{name}: p50", measured=percentile(took, 0.5), unit="ms", aim=AIM_MS))
            found.append(Finding(what=f"{name}: p99", measured=percentile(took, 0.99), unit="ms"))
            found.append(Finding(what=f"{name}: max", measured=max(took), unit="ms"))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """How one search went."""

    ms: float
    hits: int
    whole: bool
    """Whether it has all that was asked for."""


async def _ask_once(services: Services, query: Query) -> _Answer:
    began = time.perf_counter()
    answer = await search(services, query, asker=AUDITOR, before=None, limit=LIMIT)
    took = (time.perf_counter() - began) * 1e3
    assert isinstance(answer, Success)
    hits = len(answer.value.hits)
    return _Answer(ms=took, hits=hits, whole=answer.value.before is None or hits == LIMIT)


def _forget(folder: Path) -> None:
    """Have the system forget what it has of the store in memory."""
    for path in folder.glob("control*.sqlite3"):
        with path.open("rb") as store:
            os.posix_fadvise(store.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
