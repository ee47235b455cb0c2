"""The index for searches: it follows the log, behind ingest, piece by piece, and never holds anybody up.

It is no evidence, and nothing that is answered about a record comes from it but where the record is. What it lacks or
has wrong is mended by making it anew (`curfew-control reindex`).
"""

import asyncio
import contextlib
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import structlog

from control.evidence.indexed import LONG, Fact, read_facts, sort_out
from control.evidence.parsed import Parsed
from control.evidence.parsing import Parser
from control.services import Services
from control.store import statements, tree
from control.store.signals import wait
from control.store.statements import Cursor

RECORDS = 1_000
BYTES = 4 << 20
"""A piece: at most so many records and bytes. It is in one transaction, which others may have to wait for."""
PATIENCE_S = 1.0
"""Whoever else writes goes first, for so long: else the index would stand still while records keep coming."""
BUSY_S = 0.5
REST = 3.0
"""Where somebody has written within BUSY_S, a piece is followed by a rest that is so much longer than it took."""
IDLE_S = 30.0
KNOWN_TEXTS = 50_000
KNOWN_BYTES = 2_000
"""Parsed texts that are remembered, and the longest of them."""
_NUMBER = re.compile(r"\b[0-9]+\b")
_QUOTING = re.compile(r'["$\\]|[uU]&')

log = structlog.get_logger(__name__)


class Indexer:
    """Takes the log into the index. One at a time."""

    def __init__(self, services: Services, parse: Callable[[bytes], Awaitable[Parsed]]) -> None:
        self._services = services
        self._ask = parse
        self._known: OrderedDict[str, Parsed] = OrderedDict()

    async def step(self) -> bool:
        """Take one piece in, or clear a piece away. Whether there was something to do. Raises ParserError."""
        store = self._services.store
        async with store.read() as tx:
            cursor = await statements.cursor(tx)
            newest = await statements.newest(tx)
            found = await statements.lines(tx, cursor.next, most=RECORDS, size=BYTES, longest=LONG)
            people = await statements.people(tx, {one.session for one in found})
        self._services.metrics.index_lag.set(newest + 1 - (0 if cursor.clearing else cursor.next))
        if cursor.clearing:
            await self._clear()
            return True
        if not found:
            return False
        facts = await asyncio.to_thread(read_facts, found)
        parsed = [await self._parse(fact) for fact in facts]
        piece = await asyncio.to_thread(sort_out, facts, parsed, people)
        async with store.write_behind(PATIENCE_S) as tx:
            if await statements.cursor(tx) == cursor:  # else somebody wants it made anew
                await statements.add(tx, piece)
                await statements.move(tx, Cursor(next=found[-1].leaf + 1, clearing=False))
        self._services.metrics.index_lag.set(newest - found[-1].leaf)
        return True

    async def _clear(self) -> None:
        async with self._services.store.write_behind(PATIENCE_S) as tx:
            if await statements.clear(tx):
                await statements.move(tx, Cursor(next=0, clearing=False))

    async def _parse(self, fact: Fact) -> Parsed:
        """What the fact's text is, asked of the parser where no text like it was seen lately."""
        if fact.sql is None:
            return Parsed(label=fact.label)
        key = alike(fact.text) if len(fact.sql) <= KNOWN_BYTES else None
        if key is not None and (known := self._known.get(key)) is not None:
            self._known.move_to_end(key)
            return known
        parsed = await self._ask(fact.sql)
        if key is not None:
            self._known[key] = parsed
            if len(self._known) > KNOWN_TEXTS:
                self._known.popitem(last=False)
        return parsed


def alike(sql: str) -> str:
    """The text with other numbers in it: the same for all that parse to the same commands and names.

    A number that stands by itself is a number or in a literal, a comment or a quoted name; so texts with quoted names,
    dollar quotes and escapes are only like themselves.
    """
    return sql if _QUOTING.search(sql) else _NUMBER.sub("0", sql)


async def follow(services: Services) -> None:
    """Keep the index up to date until the service stops."""
    parser = Parser()
    indexer = Indexer(services, parser.parse)
    try:
        with services.store.signals.listen(tree.GROWN) as grown:
            while not services.stopping.is_set():
                began = time.monotonic()
                try:
                    if await indexer.step():
                        if services.store.quiet_s < BUSY_S:
                            await _rest(services, REST * (time.monotonic() - began))
                        continue
                except Exception:  # the task's edge: the database's next moment may be a better one
                    log.exception("the index was not brought up to date")
                await wait(grown, IDLE_S)
    finally:
        await parser.close()


async def _rest(services: Services, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await services.stopping.wait()


async def make_anew(services: Services) -> None:
    """Have the index made anew, by the service that runs or else by the next one."""
    async with services.store.write() as tx:
        await statements.move(tx, Cursor(next=0, clearing=True))
    log.info("the index is to be made anew")
