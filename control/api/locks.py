"""`/v1/locks`: stopping access at once, and giving it back."""

from fastapi import APIRouter

from control.api.access import After
from control.api.callers import Caller, Office
from control.api.people import Limit
from control.api.problems import unwrap
from control.api.shapes import LockMade, LockOut, MaybeWhy, NewLock, Page
from control.domain.locks import State
from control.operations import locks

router = APIRouter(prefix="/v1", tags=["access"])


@router.post("/locks", status_code=201)
async def create_lock(services: Office, caller: Caller, new: NewLock) -> LockMade:
    """End what the lock covers, and let nothing that it covers start. Takes nobody else's consent."""
    made = unwrap(await locks.lock(services, new.draft(), by=caller))
    return LockMade.made(made.lock, services.clock(), sessions=made.sessions, warnings=made.warnings)


@router.get("/locks")
async def list_locks(
    services: Office, caller: Caller, *, state: State | None = None, after: After = None, limit: Limit = 100
) -> Page[LockOut]:
    """The locks that you may see, newest first: who does not approve or audit sees none that name others."""
    found, following = await locks.page(services, asker=caller, state=state, after=after, limit=limit)
    now = services.clock()
    return Page.of([LockOut.of(lock, now) for lock in found], following)


@router.get("/locks/{lock_id}")
async def get_lock(services: Office, caller: Caller, lock_id: str) -> LockOut:
    """One lock."""
    return LockOut.of(unwrap(await locks.get(services, lock_id, asker=caller)), services.clock())


@router.post("/locks/{lock_id}/lift")
async def lift_lock(services: Office, caller: Caller, lock_id: str, why: MaybeWhy | None = None) -> LockOut:
    """Lift a lock: what it covered may start again. Nobody lifts one that names themselves."""
    lifted = await locks.lift(services, lock_id, by=caller, reason=None if why is None else why.reason)
    return LockOut.of(unwrap(lifted), services.clock())
