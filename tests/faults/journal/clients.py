"""The clients of a proxy: each statement carries a number of its own, so that no two of them are alike.

They speak the raw protocol, so that nothing is asked of PostgreSQL that is not theirs, and come again and again.
"""

import asyncio
import itertools
import random
from contextlib import suppress

from tests.faults.journal.stand import Site
from tests.harness.wire import SYNC, TERMINATE, Refused, Wire, one_by_one, query

CLIENTS = 3
"""Of each proxy."""
STATEMENTS = (1, 300)
"""How many a session has."""
PAUSE_S = 0.05
"""At most, between two statements: the proxies' starts need the machine too."""
AGAIN_S = 0.02
JOURNAL_FAILURE = "58030"
_WITHIN_S = 30.0
_numbers = itertools.count(1)


async def come_and_go(site: Site) -> None:
    """One client, until it is cancelled."""
    while True:
        try:
            await _session(site)
        except Refused as error:
            site.refused += error.fields.get("C") == JOURNAL_FAILURE
        except (OSError, EOFError, AssertionError):
            pass  # the proxy is gone, or does not answer: that is what is done to it
        await asyncio.sleep(AGAIN_S)  # as people try again


async def _session(site: Site) -> None:
    async with await Wire.plain(site.proxy.port) as wire:
        await wire.log_in(site.token, ("user", "dba1"), ("database", "orders"))
        for _ in range(random.randint(*STATEMENTS)):
            sent, statements, answers = _batch()
            wire.send(sent)
            for _ in range(answers):
                await _answer(wire)
            site.answered += statements
            await asyncio.sleep(random.uniform(0, PAUSE_S))  # see there
        wire.send(TERMINATE)
        with suppress(OSError):
            await wire.bytes_left()


async def _answer(wire: Wire) -> None:
    """Everything up to a ReadyForQuery. Raises Refused for an error of any kind."""
    for one in await wire.until("Z", _WITHIN_S):
        if one.kind == "E":
            raise Refused(one)


def _batch() -> tuple[bytes, int, int]:
    """What is sent in one go, how many statements it is, and how many ReadyForQuery answer it."""
    choice = random.random()
    if choice < 0.4:
        return query(_text()), 1, 1
    if choice < 0.7:
        return one_by_one("SELECT $1::text", _mark()) + SYNC, 1, 1
    if choice < 0.9:
        count = random.randint(2, 8)
        return b"".join(one_by_one("SELECT $1::text", _mark()) for _ in range(count)) + SYNC, count, 1
    begin, end = f"BEGIN -- {_mark()}", f"COMMIT -- {_mark()}"
    return query(begin) + query(_text()) + query(end), 3, 3


def _mark() -> str:
    return f"mark {next(_numbers)}"


def _text() -> str:
    """Of any length: a write may be a line or many, a segment may end anywhere."""
    size = random.choices((0, 300, 5_000, 200_000), (60, 30, 9, 1))[0]
    return f"SELECT '{_mark()}' -- {'x' * random.randint(0, size)}"
