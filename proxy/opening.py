"""The opening of a session: from the admitted connection to a backend of its own, with its start on record.

Owns what is asked of PostgreSQL before the first statement, and the session's first record. Nothing has been promised
to the client yet (see `proxy.session`).
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec
from structlog.typing import FilteringBoundLogger

from proxy import pooled
from proxy.account_making import Plan
from proxy.account_names import account_of, upstream_user
from proxy.accounts import Accounts
from proxy.admission import Way
from proxy.backends import Seen
from proxy.contract.grant import Grant
from proxy.contract.record import SessionStart
from proxy.contract.settings import Host
from proxy.errors import JournalFailed, ProtocolViolation, UpstreamFailed
from proxy.hosts import parameters
from proxy.journal import JournalError
from proxy.leg import Leg
from proxy.parameters import asked_for, upstream_parameters
from proxy.peer import Peer
from proxy.recorder import Recorder
from proxy.shared import TargetLink
from proxy.stop import WITHIN_S, Keeper, KeeperError, UnknownBackendError
from proxy.tls import encryption
from proxy.upstream import Connected, UpstreamError, told_to_client
from proxy.wire import messages
from proxy.wire.startup import StartupMessage

MAX_STARTUP_BYTES = 10_000
"""What PostgreSQL reads of a startup packet (MAX_STARTUP_PACKET_LENGTH); behind more it closes without a word."""
CLOCK_STEP_S = 5.0
"""By how much the server's clock may be set forward during a login."""
_UNKNOWN_PARAMETER = "unsupported startup parameter: curfew."
"""PgBouncer's words for our settings."""
NAME_BYTES = 63
"""What PostgreSQL keeps of a name (NAMEDATALEN)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A session's own server process: who it is, and who can end it."""

    keeper: Keeper
    server: Host
    """Where the keeper is."""
    pid: int
    started: str
    """ISO 8601, as in `session.start`. With the pid it is the backend's identity."""
    mark: int | None
    """What marks it as this session's, where a pooler may hand it on (`proxy.pooled`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What it takes to open one session."""

    grant: Grant
    way: Way
    startup: StartupMessage
    peer: Peer
    client: Leg
    recorder: Recorder
    accounts: Accounts
    session: str
    """Its id."""
    ends_at: float
    """The grant's end as it stands, which may be later than the token says."""
    proxy: str
    """This proxy's name."""
    log: FilteringBoundLogger

    async def dial(self) -> Connected:
        """Log in to PostgreSQL. Raises SessionError."""
        try:
            try:
                return await self._try()
            except UpstreamError as error:
                if not self.way.link.backstop.is_refused(error):
                    raise
                return await self._try()
        except UpstreamError as error:
            link = self.way.link
            text = f"{error}; {_advice(link)}" if _UNKNOWN_PARAMETER in str(error) else str(error)
            self.log.error("upstream failed", target=link.name, error=text)  # noqa: TRY400 expected
            raise told_to_client(error) from error

    async def _try(self) -> Connected:
        """One attempt. Raises UpstreamError, ProtocolViolation."""
        link = self.way.link
        parameters = upstream_parameters(
            self.startup,
            self.grant,
            user=upstream_user(self.grant, self.way.profile),
            database=self.way.database,
            show_person=link.settings.show_person,
            settings=not link.pooled,
        )
        parameters += link.backstop.settings(parameters)
        if (over := messages.startup_bytes(parameters) - MAX_STARTUP_BYTES) > 0:
            text = f"with what the proxy adds, the startup packet is {over} bytes longer than PostgreSQL reads"
            raise ProtocolViolation(text, detail=text)
        connected = await self._log_in(parameters)
        return await self._settle(connected, parameters) if link.pooled else connected

    async def _log_in(self, parameters: list[tuple[bytes, bytes]]) -> Connected:
        """By the stored login, or as what is made for the grant."""
        link, profile = self.way.link, self.way.profile
        if profile.identity == "vaulted":
            return await link.dialler.connect(profile, parameters)
        grant = msgspec.structs.replace(self.grant, expires_at=self.ends_at)
        plan = Plan(
            grant=grant,
            profile=profile,
            target=link.name,
            database=self.way.database,
            finish_timeout_s=link.settings.finish_timeout_s,
        )
        return await self.accounts.connect(self.session, plan, link, parameters)

    async def _settle(self, connected: Connected, parameters: list[tuple[bytes, bytes]]) -> Connected:
        """Behind a pooler: ask the login who its backend is. Raises UpstreamError."""
        link = self.way.link

        async def another() -> Connected:
            return await self._log_in(parameters)

        try:
            settled = await pooled.settle(connected, session=self.session, grant=self.grant)
            pool = (upstream_user(self.grant, self.way.profile), self.way.database)
            heard = settled.heard + await link.proofs.prove(pool, (connected, settled.identity), another)
        except BaseException:
            connected.leg.transport.abort()
            raise
        told = (settled.identity.pid, settled.identity.started)
        return replace(connected, announcement=connected.announcement + heard, told=told)

    async def identify(self, connected: Connected) -> Backend:
        """Learn who the backend is. Raises UpstreamFailed: without that, nobody could prove its end."""
        link = self.way.link
        keepers = link.keepers_behind(connected.server.host)
        try:
            keeper, seen = await self._find(connected, keepers)
            if not seen.endable:
                raise KeeperError(
                    f"the keeper may not end backends of {seen.user!r}: GRANT pg_signal_backend to it; for a superuser "
                    "it has to be one itself"
                )
        except KeeperError as error:
            self.log.error("no keeper, no session", target=link.name, profile=self.grant.profile, error=str(error))  # noqa: TRY400 expected
            raise UpstreamFailed(str(error)) from error
        server = next(host for host, one in link.keepers.items() if one is keeper)
        mark = pooled.mark_of(self.session) if link.pooled else None
        pid = connected.pid if connected.told is None else connected.told[0]
        return Backend(keeper=keeper, server=server, pid=pid, started=seen.started, mark=mark)

    async def _find(self, connected: Connected, keepers: list[Keeper]) -> tuple[Keeper, Seen]:
        """The keeper of the backend's server, and what it sees. Raises KeeperError.

        Of several, those that are connected are asked first: a server that is down keeps no session waiting.
        """
        failures: list[KeeperError] = []
        for asked in ([one for one in keepers if one.ready], [one for one in keepers if not one.ready]):
            looks = await asyncio.gather(*(self._look(connected, one) for one in asked), return_exceptions=True)
            found = [(keeper, look) for keeper, look in zip(asked, looks, strict=True) if isinstance(look, Seen)]
            if len(found) > 1:
                raise KeeperError(f"backend {connected.pid} could be on {len(found)} servers")
            if found:
                return found[0]
            for look in looks:
                if not isinstance(look, KeeperError):
                    assert isinstance(look, BaseException)
                    raise look
                failures.append(look)
        raise KeeperError("; ".join(map(str, failures)))

    async def _look(self, connected: Connected, keeper: Keeper) -> Seen:
        """Who has the backend's pid on the keeper's server, if that can be the one that was dialled."""
        link = self.way.link
        pid, started = (connected.pid, None) if connected.told is None else connected.told
        try:
            seen = await keeper.look_up(pid)
        except UnknownBackendError as error:
            raise KeeperError(f"{error} there; {_advice(link)}") from error
        if why := self._stranger(seen, started, announced=parameters(connected.announcement)):
            raise KeeperError(f"{link.name}: backend {pid} is not this session's: {why}; {_advice(link)}")
        return seen

    def _stranger(self, seen: Seen, started: str | None, *, announced: Mapping[bytes, bytes]) -> str | None:
        """Why the backend that has the pid cannot be the one that was dialled; None where it can."""
        if started is not None:
            return None if started == seen.started else f"it started at {seen.started}, not at {started}"
        if self.way.link.pooled:
            return None  # The pid is from its own mouth, and what a pool calls logins and databases is its own matter.
        oldest_s = self.way.link.settings.connect_timeout_s + WITHIN_S + CLOCK_STEP_S
        if seen.age_s > oldest_s:
            return f"it started {seen.age_s:.0f} s ago"
        user = upstream_user(self.grant, self.way.profile)
        users = {_kept(user.encode()), announced.get(b"session_authorization", b"")}
        if seen.user is not None and _kept(seen.user.encode()) not in users:
            return f"it is a login of {seen.user!r}"
        if seen.database is not None and _kept(seen.database.encode()) != _kept(self.way.database.encode()):
            return f"it is in the database {seen.database!r}"
        return None

    def record(self, backend: Backend) -> None:
        """Write the session's first record. Raises JournalFailed."""
        try:
            self.recorder.start(self._start(backend))
        except JournalError as error:
            raise JournalFailed(str(error)) from error

    def _start(self, backend: Backend) -> SessionStart:
        grant, way, peer = self.grant, self.way, self.peer
        asked = asked_for(self.startup)
        return SessionStart(
            grant=grant.id,
            person=grant.person,
            reason=grant.reason,
            approved_by=grant.approved_by,
            expires_at=int(grant.expires_at * 1e9),
            target=grant.target,
            database=way.database,
            profile=grant.profile,
            upstream_user=upstream_user(grant, way.profile),
            identity=way.profile.identity,
            account=account_of(grant, way.profile),
            backend_pid=backend.pid,
            backend_start=backend.started,
            server=str(backend.server) if len(way.link.keepers) > 1 else None,
            address=None if peer.address is None else str(peer.address),
            uid=peer.uid,
            via=None if peer.via is None else str(peer.via),
            tls=encryption(self.client),
            application_name=asked.pop("application_name", None),
            settings=asked or None,
            proxy=self.proxy,
            replication=self.startup.replication,
        )


def _kept(name: bytes) -> bytes:
    return name[:NAME_BYTES]


def _advice(link: TargetLink) -> str:
    """What to do where a backend is not on its keeper's server."""
    path = f"targets.{link.name}"
    if link.pooled:
        return f"have {path}.keeper.host name the servers behind the pooler"
    return (
        f'if a pooler stands between, say {path}.pooler = "session"; if a host leads to several servers, name them in '
        f"{path}.keeper.host"
    )
