"""Whether the service can do its work."""

import asyncio
import time

import structlog

from control.keys import KeyRingError
from control.operations.keys import current_key
from control.services import Services
from control.store.engine import DatabaseError, probe

PROBE_S = 5.0
FRESH_S = 1.0

log = structlog.get_logger(__name__)


class Health:
    """Looks, at most once in FRESH_S: anybody may ask, and looking writes to the disk."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._looked = float("-inf")
        self._found: str | None = None
        self._turn = asyncio.Lock()

    async def obstacle(self) -> str | None:
        """What keeps the service from its work, None where nothing does. The log says more than the answer."""
        if self._services.stopping.is_set():
            return "stopping"
        async with self._turn:
            if time.monotonic() - self._looked > FRESH_S:
                self._found = await _look(self._services)
                self._looked = time.monotonic()
            return self._found


async def _look(services: Services) -> str | None:
    try:
        async with asyncio.timeout(PROBE_S), services.store.write() as tx:
            await probe(tx)
            services.ring.load(await current_key(tx, services.clock()))
    except KeyRingError as error:
        log.error("not ready", why=str(error))  # noqa: TRY400 a condition, and its text says all; no traceback
        return "the signing key cannot be used"
    except (DatabaseError, OSError, TimeoutError) as error:
        log.error("not ready", why=str(error))  # noqa: TRY400 as above
        return "the database cannot be written to"
    return None
