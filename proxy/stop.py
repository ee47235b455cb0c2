"""The verified stop: a warm connection to each target, which ends backends and looks whether they are gone.

Owns the proof. A backend is named by its pid *and* its start, so that a pid that somebody else has by now is never hit,
and it counts as gone only when pg_stat_activity, read with the right to see it, no longer has it: PostgreSQL takes a
backend out of that view after its transaction is over (ShutdownPostgres runs before pgstat_beshutdown_hook). One task
owns the connection, and all that is asked meanwhile goes into one statement a round (`proxy.backends`). Knows no
sessions and decides nothing.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import structlog

from proxy import backends
from proxy.contract.settings import Secret, Target
from proxy.query import SETTINGS, Connection, LostError, QueryError
from proxy.tasks import spawn
from proxy.upstream import Dialler, UpstreamError

POLL_S = 0.01
LOOKING_SHARE = 0.25
"""Of the time, at most: PostgreSQL needs the rest to end the backends that are looked for, where they are hundreds."""
MOST_POLL_S = 0.1
SIGNAL_AGAIN_S = 0.2
ORPHAN_S = 600.0
"""How long the keeper goes on by itself to end a backend after its caller gave up waiting."""
ORPHAN_POLL_S = 1.0
LIVENESS_S = 5.0
STATEMENT_S = 3.0
WITHIN_S = 5.0
RETRY_S = (0.1, 5.0)
"""The first and the longest pause before a reconnection; URGENT_RETRY_S is the longest while somebody waits."""
URGENT_RETRY_S = 0.25
MAX_ASKED = 10_000
_STARTUP = (*SETTINGS, (b"application_name", b"curfew-keeper"))
_SETTINGS = (
    ("search_path", "pg_catalog"),
    ("statement_timeout", f"{STATEMENT_S:.0f}s"),
    ("idle_session_timeout", "0"),
    ("default_transaction_isolation", "read committed"),
)
_SET = "SELECT pg_catalog.set_config($1, $2, false)"
"""How they are set behind a pooler, which refuses a startup packet with them in it."""
_INSUFFICIENT_PRIVILEGE = "42501"

log = structlog.get_logger(__name__)


class KeeperError(Exception):
    """What was asked cannot be done, or not in time. For the log."""


class UnknownBackendError(KeeperError):
    """The keeper's server has no such backend."""


class HandedOnError(KeeperError):
    """A pooler's backend without the session's mark: it may be somebody else's by now, and is let be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """A backend is gone."""

    gone_at: int
    """When it was seen to be gone, in nanoseconds since the epoch."""
    seen: bool
    """It was seen alive before that; else it was gone at the first look."""
    transaction: Literal["committed", "aborted", "none"] | None
    """The fate of the last transaction id that the backend was seen to hold; None where nothing is known.

    `committed` and `aborted`: pg_xact_status's word on that transaction, asked when the backend was gone. `none`: the
    backend was seen alive and held no transaction id whenever we looked. Looks are 10 ms apart, the first one in the
    statement that sends the signal. Not proven, therefore: that no id was taken and its transaction committed between
    two looks, before the backend came to act on the signal; nor anything of transactions that ended before the first
    look, such as those that a DO block or a procedure commits itself. None: the backend was gone at the first look, or
    its transaction was prepared for a two-phase commit, or could not be asked about; or it was between transactions in
    mid-statement, as one is that has committed and still writes to a client who does not read.
    """


@dataclass(slots=True, kw_only=True, eq=False)
class _Look:
    """Somebody waits for a backend's start."""

    pid: int
    answer: asyncio.Future[backends.Seen]


@dataclass(slots=True, kw_only=True, eq=False)
class _Stop:
    """Somebody waits for a backend's end."""

    pid: int
    started: datetime
    answer: asyncio.Future[Gone]
    mark: int | None = None
    held: Callable[[], bool] = lambda: True
    signalled: bool = False
    forget_at: float = field(default_factory=lambda: time.monotonic() + ORPHAN_S)
    signal_at: float = 0.0
    seen: bool = False
    between: bool = False
    """At the first look. Later on, everybody who dies is."""
    xid: int | None = None
    gone_at: int = 0
    abandoned: bool = False


class Keeper:
    """The connection to one target, kept warm and made anew when it breaks.

    It must lead to the very server that sessions lead to: a target with several hosts has a keeper for each. Where one
    host's name leads to several servers, a start is not found and the session refused; after a failover behind such a
    name, backends count as gone that the old server may still have.
    """

    def __init__(self, name: str, target: Target, *, read_secret: Callable[[Secret | None], str | None]) -> None:
        """`target` has one host (`Target.at`). `read_secret` is `proxy.config.read_secret`, called in a thread.

        Both are used anew for each connection, as are the files for TLS. Raises SettingsError.
        """
        self._name = name
        self._target = target
        self._dialler = Dialler(name, target, read_secret=read_secret)
        self._looks: list[_Look] = []
        self._stops: list[_Stop] = []
        self._poll_s = POLL_S
        """The pause before the next look at backends that are dying."""
        self._wake = asyncio.Event()
        self._tried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._trouble = "not connected yet"
        self.ready = False
        """There is a connection, as far as the last round knows."""
        self._rights = backends.Rights()

    # What the server and its sessions call.

    @property
    def warnings(self) -> list[str]:
        """What the keeper's login lacks, one sentence each, when it was last asked."""
        return [*self._rights.lacks, *self._rights.unendable.values()]

    @property
    def unendable(self) -> Mapping[str, str]:
        """The logins of access profiles whose backends it cannot end, and why. Their sessions are refused."""
        return self._rights.unendable

    async def start(self) -> None:
        """Connect, and stay connected from here on. Returns after the first attempt, successful or not."""
        self._task = spawn(f"keeper of {self._name}", self._run())
        await self._tried.wait()

    async def close(self) -> None:
        """Let go of the connection; whoever still waits gets a KeeperError."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        asked: list[_Look | _Stop] = [*self._looks, *self._stops]
        for ask in asked:
            _fail(ask, f"{self._name}: the keeper was closed")

    async def backend_start(self, pid: int, *, within_s: float = WITHIN_S) -> str:
        """When backend `pid` started, as ISO 8601 with microseconds and UTC offset. Raises KeeperError."""
        return (await self.look_up(pid, within_s=within_s)).started

    async def look_up(self, pid: int, *, within_s: float = WITHIN_S) -> backends.Seen:
        """Who backend `pid` is. Raises KeeperError, UnknownBackendError where there is none."""
        look = _Look(pid=pid, answer=_future())
        self._ask(self._looks, look)
        try:
            async with asyncio.timeout(within_s):
                return await look.answer
        except TimeoutError as error:
            raise KeeperError(f"{self._name}: backend {pid} could not be looked up: {self._trouble}") from error

    async def stop(
        self,
        pid: int,
        backend_start: str,
        *,
        within_s: float = WITHIN_S,
        mark: int | None = None,
        held: Callable[[], bool] = lambda: False,
    ) -> Gone:
        """End backend `pid` that started at `backend_start`; returns when it is gone. Raises KeeperError.

        A backend that is gone already is Gone at once. After `within_s`, or when the caller is cancelled, the keeper
        goes on by itself for ORPHAN_S: a backend whose grant is over must not run on because nobody waits any more.

        With `mark` it is a pooler's, which hands it on when the session's own connection to the pooler is closed. While
        `held` says that this is open, the backend is ended as any other; afterwards only where it carries the mark, and
        where it does not, HandedOnError is raised.
        """
        started = datetime.fromisoformat(backend_start)
        stop = _Stop(pid=pid, started=started, answer=_future(), mark=mark, held=held)
        self._ask(self._stops, stop)
        try:
            async with asyncio.timeout(within_s):
                return await asyncio.shield(stop.answer)
        except TimeoutError as error:
            why = "it lives on" if stop.seen and self.ready else self._trouble
            raise KeeperError(f"{self._name}: backend {pid} not ended within {within_s:g} s: {why}") from error
        finally:
            stop.abandoned = True

    def _ask(self, asked: list[Any], ask: _Look | _Stop) -> None:
        if len(asked) >= MAX_ASKED:
            raise KeeperError(f"{self._name}: {MAX_ASKED} questions are open already")
        asked.append(ask)
        self._wake.set()

    # The task that owns the connection.

    async def _run(self) -> None:
        """Connect, serve until the connection breaks, and begin again, for ever."""
        failures = 0
        while True:
            begun = time.monotonic()
            try:
                connection = await self._connect()
                try:
                    await self._serve(connection)
                finally:
                    self.ready = False
                    connection.close()
            except Exception as error:  # noqa: BLE001 the task's edge: whatever breaks a connection, there is a next one
                said = isinstance(error, UpstreamError | LostError | QueryError)
                if (trouble := str(error) if said else f"{type(error).__name__}: {error}") != self._trouble:
                    log.warning("the keeper has no connection", target=self._name, error=trouble)
                self._trouble = trouble
            self._tried.set()
            failures = 0 if time.monotonic() - begun > LIVENESS_S + self._target.connect_timeout_s else failures + 1
            await self._pause(failures)

    async def _connect(self) -> Connection:
        login = self._target.keeper
        named = [(b"user", login.user.encode()), (b"database", login.database.encode())]
        pooled = self._target.pooler != "none" and login.host is None
        settings = [] if pooled else [(name.encode(), value.encode()) for name, value in _SETTINGS]
        connected = await self._dialler.log_in(login, [*named, *_STARTUP, *settings])
        connection = Connection(connected, on_end=self._wake.set)
        try:
            for name, value in _SETTINGS if pooled else ():
                await connection.fetch(_SET, name, value, timeout_s=STATEMENT_S)
            await self._ask_rights(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    async def _ask_rights(self, connection: Connection) -> None:
        """See what the login may do, and say so when that has changed."""
        rights = await backends.rights(connection, self._target.stored_logins, timeout_s=STATEMENT_S)
        before, self._rights = self._rights, rights
        if self._rights == before:
            return
        for warning in self._rights.lacks:
            log.warning("the keeper's login falls short", target=self._name, warning=warning)
        for user, why in self._rights.unendable.items():
            log.error("sessions are refused, because they could not be ended", target=self._name, user=user, why=why)

    async def _pause(self, failures: int) -> None:
        """Wait before the next attempt: longer each time, never in step with other proxies, short if one waits."""
        first, longest = RETRY_S
        if self._stops:
            longest = ORPHAN_POLL_S if all(stop.abandoned for stop in self._stops) else URGENT_RETRY_S
        await asyncio.sleep(min(longest, first * 2 ** min(failures, 10)) * random.uniform(0.5, 1))  # noqa: S311 jitter

    async def _serve(self, connection: Connection) -> None:
        self.ready = True
        self._trouble = "no answer in time"
        self._tried.set()
        log.info("the keeper is connected", target=self._name, backend=connection.pid)
        while True:
            self._wake.clear()
            self._forget()
            if self._looks:
                await self._look(connection)
            if self._stops:
                await self._stop_round(connection)
            await self._wait(connection)

    async def _wait(self, connection: Connection) -> None:
        """Wait until something is asked or, while backends are dying, until the next look at them is due."""
        pause = LIVENESS_S
        if self._stops:
            pause = ORPHAN_POLL_S if all(stop.abandoned for stop in self._stops) else self._poll_s
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            if not self._stops:
                await self._ask_rights(connection)  # it is a sign of life too
        if connection.lost is not None:
            raise LostError(connection.lost)

    def _forget(self) -> None:
        """Drop what is answered, what nobody waits for any more, and what was tried for long enough."""
        now = time.monotonic()
        self._looks = [look for look in self._looks if not look.answer.done()]
        for stop in self._stops:
            if now > stop.forget_at:
                _fail(stop, f"{self._name}: backend {stop.pid} could not be ended in {ORPHAN_S:g} s")
        self._stops = [stop for stop in self._stops if not stop.answer.done()]

    async def _look(self, connection: Connection) -> None:
        looks = list(self._looks)  # who asks during the statement is served by the next one
        found = await backends.seen(connection, [look.pid for look in looks], timeout_s=STATEMENT_S)
        for look in looks:
            seen = found.get(look.pid)
            if look.answer.done():
                continue
            if seen is not None:
                look.answer.set_result(seen)
            elif look.pid in found:
                _fail(look, f"{self._name}: backend {look.pid} may not be seen")
            else:
                _fail(look, f"{self._name}: backend {look.pid} does not exist", UnknownBackendError)

    async def _stop_round(self, connection: Connection) -> None:
        """One look at every backend that is to end, with the signal for those whose time it is."""
        begun = time.monotonic()
        await self._sight_all(connection, list(self._stops))  # as in _look
        took_s = time.monotonic() - begun
        self._poll_s = min(max(POLL_S, took_s / LOOKING_SHARE - took_s), MOST_POLL_S)

    async def _sight_all(self, connection: Connection, stops: list[_Stop]) -> None:
        try:
            await self._sight(connection, stops)
        except QueryError as refused:
            if refused.sqlstate != _INSUFFICIENT_PRIVILEGE:
                raise
            # PostgreSQL refuses the whole statement because of one backend that is not ours to end: one by one, then.
            for stop in stops:
                try:
                    await self._sight(connection, [stop])
                except QueryError as error:
                    if error.sqlstate != _INSUFFICIENT_PRIVILEGE:
                        raise
                    _fail(stop, f"{self._name}: backend {stop.pid}: {error}")

    async def _sight(self, connection: Connection, stops: list[_Stop]) -> None:
        now = time.monotonic()
        wanted = [_wanted(stop, now) for stop in stops]
        seen = await backends.sight(connection, wanted, timeout_s=STATEMENT_S)
        now_ns = time.time_ns()
        gone = []
        for stop, want, sighting in zip(stops, wanted, seen, strict=True):
            if sighting is None or (sighting.started is not None and sighting.started != stop.started):
                stop.gone_at = stop.gone_at or now_ns  # the first time counts, should the next statement fail
                gone.append(stop)
            elif sighting.started is None:
                _fail(stop, f"{self._name}: backend {stop.pid} may not be seen: GRANT pg_read_all_stats to the keeper")
            elif not sighting.marked:  # it was asked about, so no signal was sent so far (`_wanted`)
                _fail(
                    stop,
                    f"{self._name}: the pooler has handed backend {stop.pid} on, or its mark is gone",
                    HandedOnError,
                )
            else:
                stop.between = stop.between if stop.seen else sighting.between
                stop.seen = True
                stop.signalled = stop.signalled or want.signal
                stop.xid = stop.xid if sighting.xid is None else sighting.xid
                stop.signal_at = now + SIGNAL_AGAIN_S if want.signal else stop.signal_at
        await self._settle(connection, gone)

    async def _settle(self, connection: Connection, gone: list[_Stop]) -> None:
        """Answer for backends that are gone, with the fate of the transaction that each was last seen in."""
        xids = sorted({stop.xid for stop in gone if stop.xid is not None})
        fates: dict[int, backends.Fate | None] = {}
        if xids:
            with suppress(QueryError):  # a standby, or a fate that is not to be had: None, then
                fates = dict(zip(xids, await backends.fates(connection, xids, timeout_s=STATEMENT_S), strict=True))
        for stop in gone:
            if not stop.answer.done():
                none: backends.Fate | Literal["none"] | None = "none" if stop.seen and not stop.between else None
                fate = none if stop.xid is None else fates.get(stop.xid)
                stop.answer.set_result(Gone(gone_at=stop.gone_at, seen=stop.seen, transaction=fate))


def _wanted(stop: _Stop, now: float) -> backends.Wanted:
    """What to look for. One that dies gives its locks back first: it is looked for without its mark, once signalled."""
    mark = None if stop.mark is None or stop.signalled or stop.held() else stop.mark
    return backends.Wanted(pid=stop.pid, started=stop.started, signal=now >= stop.signal_at, mark=mark)


def _future() -> asyncio.Future[Any]:
    """A future whose failure may go unseen, because nobody may wait for it any more."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda done: None if done.cancelled() else done.exception())
    return future


def _fail(ask: _Look | _Stop, text: str, kind: type[KeeperError] = KeeperError) -> None:
    if not ask.answer.done():
        ask.answer.set_exception(kind(text))
