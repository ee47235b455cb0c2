"""The opening of a session: from the admitted connection to a backend of its own, with its start on record.

Owns what is asked of PostgreSQL before the first statement, and the session's first record. Nothing has been promised
to the client yet (see `proxy.session`).
"""

from dataclasses import dataclass

import msgspec
from structlog.typing import FilteringBoundLogger

from proxy.account_making import Plan
from proxy.account_names import account_of, upstream_user
from proxy.accounts import Accounts
from proxy.admission import Way
from proxy.contract.grant import Grant
from proxy.contract.record import SessionStart
from proxy.errors import JournalFailed, ProtocolViolation, UpstreamFailed
from proxy.journal import JournalError
from proxy.leg import Leg
from proxy.parameters import upstream_parameters
from proxy.peer import Peer
from proxy.recorder import Recorder
from proxy.stop import Keeper, KeeperError
from proxy.tls import encryption
from proxy.upstream import Connected, UpstreamError, told_to_client
from proxy.wire import messages
from proxy.wire.startup import StartupMessage

MAX_STARTUP_BYTES = 10_000
"""What PostgreSQL reads of a startup packet (MAX_STARTUP_PACKET_LENGTH); behind more it closes without a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A session's own server process: who it is, and who can end it."""

    keeper: Keeper
    pid: int
    started: str
    """ISO 8601, as in `session.start`. With the pid it is the backend's identity."""


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
        link = self.way.link
        parameters = upstream_parameters(
            self.startup,
            self.grant,
            user=upstream_user(self.grant, self.way.profile),
            database=self.way.database,
            show_person=link.settings.show_person,
        )
        if (over := messages.startup_bytes(parameters) - MAX_STARTUP_BYTES) > 0:
            text = f"with what the proxy adds, the startup packet is {over} bytes longer than PostgreSQL reads"
            raise ProtocolViolation(text, detail=text)
        try:
            if self.way.profile.identity == "vaulted":
                return await link.dialler.connect(self.way.profile, parameters)
            grant = msgspec.structs.replace(self.grant, expires_at=self.ends_at)
            plan = Plan(grant=grant, profile=self.way.profile, target=link.name, database=self.way.database)
            return await self.accounts.connect(self.session, plan, link, parameters)
        except UpstreamError as error:
            self.log.error("upstream failed", target=link.name, error=str(error))  # noqa: TRY400 expected
            raise told_to_client(error) from error

    async def identify(self, connected: Connected) -> Backend:
        """Learn who the backend is. Raises UpstreamFailed: without that, nobody could prove its end."""
        keeper = self.way.link.keepers[connected.server.host]
        try:
            started = await keeper.backend_start(connected.pid)
        except KeeperError as error:
            self.log.error("no keeper, no session", target=self.way.link.name, error=str(error))  # noqa: TRY400 expected
            raise UpstreamFailed(str(error)) from error
        return Backend(keeper=keeper, pid=connected.pid, started=started)

    def record(self, connected: Connected, backend: Backend) -> None:
        """Write the session's first record. Raises JournalFailed."""
        try:
            self.recorder.start(self._start(connected, backend))
        except JournalError as error:
            raise JournalFailed(str(error)) from error

    def _start(self, connected: Connected, backend: Backend) -> SessionStart:
        grant, way, peer = self.grant, self.way, self.peer
        application = dict(self.startup.parameters).get(b"application_name")
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
            server=str(connected.server.host) if len(way.link.keepers) > 1 else None,
            address=None if peer.address is None else str(peer.address),
            uid=peer.uid,
            via=None if peer.via is None else str(peer.via),
            tls=encryption(self.client),
            application_name=None if application is None else application.decode("utf-8", "backslashreplace"),
            proxy=self.proxy,
            replication=self.startup.replication,
        )
