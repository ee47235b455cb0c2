"""Places: counting a grant's sessions over all proxies, and hearing from each process that it is there.

A grant never has more sessions than it allows, whatever is lost on the way: a place is given back only by the process
that has it, or by the record that its session is over (`evidence.ingest`). Time alone gives none back.
"""

import structlog

from control.domain.grants import State
from control.domain.results import Failure, Reason, Result, Success
from control.services import Services
from control.store import grants, places
from control.store.places import Place
from proxy.contract.places import Counted, Heard, Present, Wanted

NO_SUCH_GRANT = Failure(Reason.NOT_FOUND, "there is no such grant")
NO_PLACE = Counted(admitted=False, number=0)
ANOTHERS = Failure(Reason.CONFLICT, "another session of this id has a place")

log = structlog.get_logger(__name__)


async def take(services: Services, proxy: str, grant_id: str, wanted: Wanted) -> Result[Counted]:
    """A place on the grant for one more session, or none where it has all that it allows."""
    now = services.clock()
    async with services.store.write() as tx:  # one at a time: two that count at once would both find room
        grant = await grants.find(tx, grant_id)
        if grant is None:
            return NO_SUCH_GRANT
        if (stands := grant.state(now)) is not State.ACTIVE:
            return Failure(Reason.NOT_ACTIVE, f"the grant is {stands}")
        place = Place(
            session=wanted.session, grant=grant_id, proxy=proxy, holder=wanted.holder, run=wanted.run, taken_at=now
        )
        if (found := await places.find(tx, wanted.session)) is not None:
            number, known = found
            same = (known.grant, known.proxy) == (grant_id, proxy)
            return Success(Counted(admitted=True, number=number)) if same else ANOTHERS
        if grant.max_sessions is not None and await places.taken(tx, grant_id) >= grant.max_sessions:
            log.info("no place", grant=grant_id, proxy=proxy, max_sessions=grant.max_sessions)
            return Success(NO_PLACE)
        return Success(Counted(admitted=True, number=await places.add(tx, place)))


async def hear(services: Services, proxy: str, present: Present) -> Heard:
    """Give back the places that a process has no more. It writes only where there are any: this comes all the time."""
    services.presence.tells(proxy)
    async with services.store.read() as tx:
        newest = await places.newest(tx)
        over = await places.over(tx, proxy, present)
    if over:
        async with services.store.write() as tx:
            await places.give_back(tx, over)
    return Heard(newest=newest)
