"""Whether the service can do its work."""

import asyncio

import structlog
from sqlalchemy.exc import SQLAlchemyError

from control.keys import KeyRingError
from control.operations.keys import current_key
from control.services import Services
from control.store.engine import probe

PROBE_S = 5.0

log = structlog.get_logger(__name__)


async def obstacle(services: Services) -> str | None:
    """What keeps the service from its work, None where nothing does. The log says more than the answer."""
    if services.stopping.is_set():
        return "stopping"
    try:
        async with asyncio.timeout(PROBE_S), services.store.write() as tx:
            await probe(tx)
            services.ring.load(await current_key(tx, services.clock()))
    except KeyRingError as error:
        log.error("not ready", why=str(error))  # noqa: TRY400 a condition, and its text says all; no traceback
        return "the signing key cannot be used"
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        log.error("not ready", why=str(error))  # noqa: TRY400 as above
        return "the database cannot be written to"
    return None
