"""What proxies sent that is not what it should be."""

from collections.abc import Sequence

from control.services import Services
from control.store import records
from control.store.records import Fault


async def page(services: Services, *, after: int | None, limit: int) -> tuple[Sequence[Fault], int | None]:
    """The faults, newest first, and where the next page starts."""
    async with services.store.read() as tx:
        return await records.faults_page(tx, after=after, limit=limit)
