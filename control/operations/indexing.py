"""The index for searches: it follows the log, behind ingest, piece by piece, in a process of its own.

It is no evidence, and nothing that is answered about a record comes from it but where the record is. What it lacks or
has wrong is mended by making it anew (`curfew-control reindex`). The process is `control.indexer`; it works at a low
priority, writes to a file of its own, and takes no lock of the books.
"""

import asyncio
import contextlib
import gc
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from control.evidence.indexed import LONG, Fact, read_facts, sort_out
from control.evidence.parsed import Parsed
from control.evidence.shapes import LABELLED, Shape, Shapes
from control.services import Services
from control.store import tree
from control.store.index import file
from control.store.index import log as the_log
from control.store.index.file import Cursor
from control.store.index.places import BLOCK
from control.store.index.writing import Piece, Writer
from control.store.signals import wait

RECORDS = BLOCK
BYTES: Final = 16 << 20
"""A piece: at most so many records and bytes, none of them in another block than the first."""
IDLE_S: Final = 30.0
LAG_S: Final = 1.0
AGAIN_S: Final = 5.0
"""Until an indexer that has died is replaced."""
END_S: Final = 5.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """The next piece of the log."""

    facts: Sequence[Fact]
    shapes: list[Shape | None]
    """Of each, as far as they are known."""
    unknown: dict[str, list[int]]
    """Places of texts that have to be parsed, by what those that are parsed alike have in common."""
    foreign: list[int]
    """Places of texts whose bytes are not the characters that the record shows."""
    last: int
    digest: bytes


def spare_the_collector() -> None:
    """Have the garbage collector look less often: a piece is a million objects, and none of them in a circle."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)


class Indexer:
    """Takes the log into the index. One at a time."""

    def __init__(
        self, books: Path, index: Path, parse_all: Callable[[Sequence[bytes]], Awaitable[Sequence[Parsed]]]
    ) -> None:
        self._parse_all = parse_all
        self._log = the_log.open_log(books)
        self.index = file.open_to_write(index)
        self._shapes = Shapes()
        self._seen: tuple[int, dict[str | bytes, int]] = (-1, {})
        self._writer = Writer(self.index)

    def close(self) -> None:
        """Close the files."""
        self._log.close()
        self.index.close()

    async def step(self) -> bool:
        """Take one piece in, or throw everything away. Whether there was something to do. Raises ParserError."""
        cursor = await asyncio.to_thread(file.cursor, self.index)
        if cursor.clearing or await asyncio.to_thread(self._is_another_log, cursor):
            log.info("the index is made anew")
            self._forget()
            await asyncio.to_thread(file.clear, self.index)
            return True
        found = await asyncio.to_thread(self._read, cursor.next)
        if found is None:
            return False
        await self._parse(found)
        try:
            await asyncio.to_thread(self._write, cursor, found)
        except BaseException:
            self._forget()
            raise
        return True

    def _is_another_log(self, cursor: Cursor) -> bool:
        """Whether the log does not have what was indexed last: somebody has put a copy of the books in their place."""
        return cursor.next > 0 and the_log.digest(self._log, cursor.next - 1) != cursor.digest

    def _forget(self) -> None:
        self._seen = (-1, {})
        self._writer = Writer(self.index)

    def _read(self, first: int) -> _Found | None:
        below = min(first + RECORDS, (first // BLOCK + 1) * BLOCK)
        lines = the_log.lines(self._log, first, below=below, size=BYTES, longest=LONG)
        if not lines:
            return None
        facts = read_facts(lines)
        last = lines[-1].leaf
        found = _Found(
            facts=facts, shapes=[], unknown={}, foreign=[], last=last, digest=the_log.digest(self._log, last)
        )
        for place, fact in enumerate(facts):
            shape = None
            if fact.text is None:
                shape = None if fact.label is None else LABELLED[fact.label]
            elif fact.text.sql_base64 is not None:
                found.foreign.append(place)
            else:
                known = self._shapes.find(fact.text.sql)
                if isinstance(known, str):
                    found.unknown.setdefault(known, []).append(place)
                else:
                    shape = known
            found.shapes.append(shape)
        return found

    async def _parse(self, found: _Found) -> None:
        """Ask the parser for what is not known."""
        asked: list[tuple[str | None, list[int]]] = [*found.unknown.items(), *((None, [one]) for one in found.foreign)]
        if not asked:
            return
        for (common, places), parsed in zip(
            asked, await self._parse_all([found.facts[places[0]].sql for _, places in asked]), strict=True
        ):
            shape = self._shapes.learn(common, parsed)
            for place in places:
                found.shapes[place] = shape

    def _write(self, before: Cursor, found: _Found) -> None:
        block = before.next // BLOCK
        if self._seen[0] != block:
            self._seen = (block, {})
        people = the_log.people(self._log, {fact.session for fact in found.facts})
        piece = sort_out(found.facts, found.shapes, people, self._seen[1])
        with file.writing(self.index):
            if file.cursor(self.index) == before:  # else somebody wants it made anew
                self._take_in(piece, before, found)

    def _take_in(self, piece: Piece, before: Cursor, found: _Found) -> None:
        self._writer.add(piece, fresh=before.next % BLOCK == 0)
        file.move(self.index, Cursor(next=found.last + 1, digest=found.digest, clearing=False))


async def follow(services: Services) -> None:
    """Keep the index up to date until the service stops: run the indexer, wake it, and say how far behind it is."""
    books = services.settings.database
    while not services.stopping.is_set():
        try:
            await _follow(services, books)
        except (OSError, file.FileError):
            log.exception("the indexer is not there")
        if not services.stopping.is_set():
            log.warning("the indexer has ended, and is started again", in_s=AGAIN_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S):
                    await services.stopping.wait()


async def _follow(services: Services, books: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-P", "-m", "control.indexer", str(books), services.settings.log_level, services.settings.log_format),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        env={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        start_new_session=True,
    )
    assert process.stdin is not None
    told = -LAG_S
    try:
        with services.store.signals.listen(tree.GROWN) as grown:
            while process.returncode is None and not services.stopping.is_set():
                if process.stdin.transport.get_write_buffer_size() == 0:
                    process.stdin.write(b"\n")
                await wait(grown, LAG_S)
                if time.monotonic() - told >= LAG_S:
                    services.metrics.index_lag.set(await asyncio.to_thread(lag, books))
                    told = time.monotonic()
    finally:
        process.stdin.close()  # by that it knows
        try:
            async with asyncio.timeout(END_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def lag(books: Path) -> int:
    """How many records the index does not have."""
    newest = the_log.newest_of(books)
    try:
        index = file.open_to_read(file.path_beside(books), books)
    except file.StaleError:
        index = None
    if index is None:
        return newest + 1
    with contextlib.closing(index):
        cursor = file.cursor(index)
    return newest + 1 - (0 if cursor.clearing else cursor.next)


async def make_anew(services: Services) -> None:
    """Have the index made anew, by the service that runs or else by the next one."""
    await asyncio.to_thread(_make_anew, file.path_beside(services.settings.database))
    log.info("the index is to be made anew")


def _make_anew(path: Path) -> None:
    with contextlib.closing(file.open_to_write(path)) as index, file.writing(index):
        file.move(index, Cursor(next=0, digest=b"", clearing=True))
