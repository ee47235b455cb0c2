"""Exports: a session's timeline, written in a format while it is read."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import structlog

from control.domain.people import Person
from control.domain.results import Failure, Result, Success
from control.domain.sessions import Session
from control.evidence.exports.formats import Exporter
from control.evidence.timeline import Item
from control.operations import sessions
from control.services import Services

HEAVY = 64 * 1024
"""Characters of an item from which on writing it takes so long that nobody else should wait for it."""

log = structlog.get_logger(__name__)


async def items(
    services: Services, session_id: str, *, asker: Person, wanted: str
) -> Result[tuple[Session, AsyncIterator[Item]]]:
    """A session and its timeline, for whoever may read its records; who took it in which format is in the log."""
    found = await sessions.timeline(services, session_id, asker=asker)
    if isinstance(found, Failure):
        return found
    log.info("session exported", session=session_id, by=asker.name, format=wanted)
    return Success(found.value)


async def written(exporter: Exporter, told: AsyncIterator[Item]) -> AsyncIterator[bytes]:
    """The document, piece by piece."""
    yield exporter.begin()
    async for item in told:
        if _weight(item) < HEAVY:
            yield exporter.take(item)
        else:
            yield await asyncio.to_thread(exporter.take, item)
    yield exporter.finish()


def _weight(item: Item) -> int:
    """About how many characters it has."""
    values: list[Any] = [item["text"], *(one.value or one.base64 for one in item.get("parameters") or [])]
    return sum(len(value) if isinstance(value, str) else 1 for value in values)
