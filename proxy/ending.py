"""The end of a session: stop the backend, prove it, tell the client, write the last record.

Three ways lead here: the client has left, PostgreSQL has, or somebody or something decided that access ends. Only the
first, with nothing running, needs no verified stop. Whatever fails on the way, the last record is attempted and the
sockets are closed.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from proxy.contract.grant import Grant
from proxy.contract.record import EndReason, Finish, Outcome, SessionEnd
from proxy.decision import Stop
from proxy.errors import GrantEnded, SessionError, UpstreamFailed
from proxy.journal import JournalError
from proxy.leg import Leg
from proxy.notices import moment, what_happened
from proxy.opening import Backend
from proxy.recorder import Recorder
from proxy.relay import Cause, Relay
from proxy.shared import Shared
from proxy.stop import Gone, KeeperError
from proxy.upstream import Connected
from proxy.wire import messages
from proxy.wire.outcome import Scene, outcome

LAST_WORDS_S = 0.5
"""How long to read what PostgreSQL still sends once its backend is gone."""
GOODBYE_S = 2.0
"""How long a backend may take to end by itself after Terminate."""

_HINTS: dict[EndReason, str] = {
    "drained": "Connect again: your grant is still valid.",
    "idle": "Connect again: your grant is still valid.",
    "lease_lost": "Your grant is not at fault. Connect again once the proxy hears the control service again.",
    "locked": "Until the lock is lifted nobody whom it covers gets in: ask whoever set it.",
    "withdrawn": 'Get a fresh token with "curfew token", and connect again.',
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What it takes to end one session."""

    shared: Shared
    backend: Backend
    grant: Grant
    client: Leg
    connected: Connected
    relay: Relay
    recorder: Recorder
    log: FilteringBoundLogger

    async def run(self, cause: Cause | Stop, *, scene: Scene | None = None, finish: Finish | None = None) -> None:
        """End the session for `cause`. `scene`: what was going on when that was decided, where it was before."""
        begun = time.time_ns()
        decided_at = cause.decided_at if isinstance(cause, Stop) else begun
        tracker = self.relay.tracker
        scene = scene or Scene.of(tracker)
        left_by_itself = cause == "client" and not tracker.busy
        ended_by_client = cause == "upstream" and tracker.terminated
        if left_by_itself:
            gone = await self._say_goodbye()
        elif ended_by_client:
            gone = None
        elif cause == "upstream":
            gone = await self._stop_after_telling(cause)
        else:
            gone = await self._stop()
        became = outcome(tracker, scene, fate=gone.transaction if gone else None)
        if gone is None and tracker.busy:
            became = "unknown"  # Nobody saw the backend die: what it was running may go on and commit.
        reason: EndReason = "closed" if left_by_itself or ended_by_client else _reason(cause)
        self._record(
            SessionEnd(
                reason=reason,
                by=cause.by if isinstance(cause, Stop) else None,
                decided_at=decided_at,
                gone_at=gone.gone_at if gone is not None else None,
                outcome=became,
                running=scene.running,
                finish=finish,
                statements=tracker.statements,
                bytes_in=self.relay.bytes_in,
                bytes_out=self.relay.bytes_out,
            )
        )
        self._measure(reason, decided_at if finish is None or finish.ended == "cut" else begun, gone)
        if not self.client.transport.is_closing():
            await self._part(self._farewell(cause, became))

    async def _say_goodbye(self) -> Gone | None:
        """Let an idle backend end by itself; a stubborn one is stopped."""
        self.connected.leg.write(messages.TERMINATE)
        try:
            async with asyncio.timeout(GOODBYE_S):
                await asyncio.shield(self.relay.upstream_ended)
        except TimeoutError:
            return await self._stop()
        return None

    async def _stop_after_telling(self, cause: Cause) -> Gone | None:
        """As `_stop`, for an end that nobody decided: the client, who may have another server, waits for no proof."""
        self.relay.close_in()
        gone, _ = await asyncio.gather(self._stop(), self._part(self._farewell(cause, "unknown")))
        return gone

    async def _stop(self) -> Gone | None:
        """The verified stop; None where the keeper cannot reach the target and closed sockets must do."""
        self.relay.close_in()
        try:
            gone = await self.backend.keeper.stop(
                self.backend.pid,
                self.backend.started,
                within_s=self.shared.settings.stop_timeout_s,
                mark=self.backend.mark,
                held=self._holds_backend,
            )
        except KeeperError as error:
            self.log.error("the backend's end could not be verified", pid=self.backend.pid, error=str(error))  # noqa: TRY400
            self.shared.metrics.unverified_stops += 1
            self.connected.leg.transport.abort()
            return None
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                await asyncio.shield(self.relay.upstream_ended)
        except TimeoutError:
            pass
        return gone

    def _holds_backend(self) -> bool:
        """Whether our connection to a pooler is still open: until it is closed, the backend is given to nobody else."""
        return not self.relay.upstream_ended.done() and not self.connected.leg.transport.is_closing()

    def _record(self, end: SessionEnd) -> None:
        """Hand over the last records. A journal that is shut keeps them, within its bound, and writes them later."""
        try:
            with contextlib.suppress(JournalError):  # The next line says it, if it is still so.
                ends = self.relay.tracker.close(time.monotonic_ns(), self.relay.copied)
                self.recorder.after([*ends, *self.relay.withdrawn])
            self.recorder.end(end)
        except JournalError as error:
            self.log.critical("the session's end could not be recorded", error=str(error), outcome=end.outcome)

    def _measure(self, reason: EndReason, stopped_at: int, gone: Gone | None) -> None:
        metrics = self.shared.metrics
        metrics.ended[reason] += 1
        metrics.statements += self.relay.tracker.statements
        metrics.bytes_in += self.relay.bytes_in
        metrics.bytes_out += self.relay.bytes_out
        if gone is not None and reason not in ("closed", "upstream"):
            metrics.stop_seconds.observe((gone.gone_at - stopped_at) / 1e9)
        self.log.info("session ended", reason=reason, grant=self.grant.id)

    def _farewell(self, cause: Cause | Stop, became: Outcome) -> SessionError | None:
        """What the client is told last; None where it has left, or PostgreSQL has told it."""
        if isinstance(cause, Stop):
            return self._grant_ended(cause, became)
        if isinstance(cause, SessionError):
            return cause
        if cause == "upstream" and not self.relay.tracker.terminated and self.relay.tracker.fatal is None:
            return UpstreamFailed(detail="The connection to the database was lost.")
        return None

    def _grant_ended(self, stop: Stop, became: Outcome) -> GrantEnded:
        grant = self.grant
        at, by = moment(stop.decided_at / 1e9), f" by {stop.by}" if stop.by else ""
        message = f"access to {grant.target} has ended: {what_happened(stop.reason)}{by} (grant {grant.id}, {at})"
        later = " What was asked since then was not run." if self.relay.turned_away else ""
        again = f"Ask again: curfew request {grant.target} {grant.profile} --for 1h --reason '...'"
        return GrantEnded(
            stop.reason,
            message,
            detail=f"Work that was open: {became}.{later}",
            hint=_HINTS.get(stop.reason, again),
        )

    async def _part(self, farewell: SessionError | None) -> None:
        """Tell the client, if it can still be told, and close both sockets."""
        if farewell is not None and self.relay.settled:
            error = messages.error_response(
                "FATAL", farewell.sqlstate, farewell.message, detail=farewell.detail, hint=farewell.hint
            )
            self.client.write(error)
        self.connected.leg.transport.abort()
        await self.client.close()


def _reason(cause: Cause | Stop) -> EndReason:
    if isinstance(cause, Stop | SessionError):
        return cause.reason
    return "client_lost" if cause == "client" else "upstream"
