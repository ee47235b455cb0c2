"""Sessions at once on a grant, as control counts them over all proxies (DESIGN.md 4.5), and this process's presence.

Owns what this process has asked control to count, and says so at least every BEAT_S: control gives back what is not on
the list, and takes a proxy that says nothing for dead. It never admits what control has not counted; the limits that
need no control are the registry's.
"""

import asyncio
import contextlib
import secrets
from typing import Protocol

import structlog

from proxy.contract.directive import HEARTBEAT_S
from proxy.contract.grant import Grant
from proxy.contract.places import MOST_LISTED, Counted, Heard, Present, Wanted
from proxy.control_client import ControlError
from proxy.errors import NotCounted
from proxy.registry import used_up

ANSWER_S = 5.0
"""How long a login waits to be counted. One round trip, and control's disk."""
BEAT_S = HEARTBEAT_S
LAST_S = 1.0
"""How long the end of the process may wait to say so."""

log = structlog.get_logger(__name__)


class Control(Protocol):
    """What is asked of control."""

    async def take_place(self, grant: str, wanted: Wanted) -> Counted:
        """Have a session of `grant` counted in. Raises ControlError."""

    async def tell_presence(self, present: Present) -> Heard:
        """Say what this process has. Raises ControlError."""


class Quota:
    """The places of one process. `run` runs for as long as the process does."""

    def __init__(self, control: Control, *, holder: str) -> None:
        """`holder` is this process's name within its proxy, the same after each start."""
        self._control = control
        self._holder = holder
        self._run = secrets.token_hex(8)
        self._held: set[str] = set()
        """Sessions that have a place, or have asked for one."""
        self._known = 0
        """Every place of this process up to this number is a held session's, or nobody's any more."""
        self._alone = False
        self._changed = asyncio.Event()
        self._told = True

    async def take(self, grant: Grant, session: str) -> None:
        """Have control count the session, where its grant is limited. Raises TooManySessions or NotCounted.

        Whoever gets in owes `give_back`, once the session's backend is gone.
        """
        if grant.max_sessions is None:
            return
        self._held.add(session)
        try:
            async with asyncio.timeout(ANSWER_S):
                counted = await self._control.take_place(
                    grant.id, Wanted(session=session, holder=self._holder, run=self._run)
                )
        except BaseException as error:
            self.give_back(session)  # control may have counted it all the same
            if isinstance(error, ControlError | TimeoutError):
                raise _not_counted(grant, error) from error
            raise
        if not counted.admitted:
            self._held.discard(session)
            raise used_up(grant)
        self._known = max(self._known, counted.number)

    def give_back(self, session: str) -> None:
        """The session is over, if it had a place."""
        if session in self._held:
            self._held.discard(session)
            self._changed.set()

    def be_alone(self) -> None:
        """Nothing is left of what this process was before its start."""
        self._alone = True
        self._changed.set()

    async def run(self) -> None:
        """Say what this process has, at once where that has changed, until cancelled."""
        while True:
            if await self._tell():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(BEAT_S):
                        await self._changed.wait()
            else:
                await asyncio.sleep(BEAT_S)

    async def close(self) -> None:
        """Say for the last time what this process has, where control does not know yet.

        A drained session's person goes on at another proxy, and must not be refused there for the place they had here.
        """
        if self._changed.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_S):
                    await self._tell()

    async def _tell(self) -> bool:
        owed = self._changed.is_set()
        self._changed.clear()
        try:
            async with asyncio.timeout(ANSWER_S):
                heard = await self._control.tell_presence(self._present())
        except (ControlError, TimeoutError) as error:
            if self._told:
                log.warning("control does not hear that this proxy is there", error=str(error) or "no answer in time")
            self._told = False
        except Exception:
            log.exception("telling control that this proxy is there failed")
            self._told = False
        else:
            self._told, owed = True, False
            self._known = max(self._known, heard.newest)
        finally:
            if owed:
                self._changed.set()
        return self._told

    def _present(self) -> Present:
        """What is so at this moment: the list and the number belong together."""
        listed = len(self._held) <= MOST_LISTED
        return Present(
            holder=self._holder,
            run=self._run,
            known=self._known if listed else 0,
            sessions=sorted(self._held) if listed else [],
            alone=self._alone,
        )


def _not_counted(grant: Grant, error: Exception) -> NotCounted:
    why = str(error) or "no answer in time"
    log.error("a session of a limited grant was refused: control did not count it", grant=grant.id, error=why)
    return NotCounted(
        why,
        detail=f"Grant {grant.id} allows {grant.max_sessions} sessions at once over all proxies, "
        "and the control service, which counts them, has not answered.",
    )
