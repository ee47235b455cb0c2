"""One connection, told in order: negotiate -> authenticate -> admit -> dial -> announce -> relay -> end.

`Session.run` is the table of contents. Each phase either leads to the next one or raises what the client is told
(`proxy.errors`). Nothing reaches PostgreSQL before `_admit`; nothing is left there after `proxy.ending`.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable

import structlog

from proxy import pace
from proxy.admission import Admission, Way
from proxy.bearer import Asking
from proxy.contract.directive import Extension
from proxy.contract.grant import Grant
from proxy.contract.record import Cancel, Chain, EndReason
from proxy.contract.token import VerifyingKey
from proxy.decision import Decision, Stop
from proxy.ending import Ending
from proxy.errors import (
    AuthenticationTimeout,
    ClientGone,
    JournalFailed,
    NotAdmitted,
    SessionError,
    UserBarred,
)
from proxy.idle import IdleWatch
from proxy.leg import Leg
from proxy.negotiate import CancelAsked, Negotiation, Refused, Started
from proxy.notices import Notices
from proxy.opening import Opening
from proxy.peer import Peer, read_header
from proxy.recorder import Recorder
from proxy.relay import Cause, Relay
from proxy.session_id import new_session_id
from proxy.shared import Shared
from proxy.term import Term
from proxy.tls import thumbprint
from proxy.upstream import Connected, UpstreamError
from proxy.vanished import VanishedWatch
from proxy.wire import messages
from proxy.wire.proxy_header import HeaderError
from proxy.wire.startup import StartupMessage
from proxy.wire.tracker import Tracker

SECRET_BYTES = {0: 4, 2: 32}
"""A cancel key's secret by minor protocol version: 3.0 has room for 4 bytes, 3.2 takes up to 256."""
READY_FOR_QUERY = b"Z\0\0\0\5I"
NO_CERTIFICATE = ("CERTIFICATE_VERIFY_FAILED", "PEER_DID_NOT_RETURN_A_CERTIFICATE")
"""OpenSSL's names for a client's certificate that is not to be trusted, and for one that is missing."""

log = structlog.get_logger(__name__)


class Session:
    """One connection."""

    grant: Grant
    signed_by: VerifyingKey

    def __init__(
        self,
        shared: Shared,
        sock: socket.socket,
        peer: Peer,
        *,
        asking: Asking,
        on_identified: Callable[[Peer], None],
        on_authenticated: Callable[[], None],
    ) -> None:
        self.id = new_session_id()
        self._shared = shared
        self._sock = sock
        self._peer = peer
        self._asking = asking
        self._on_identified = on_identified
        self._on_authenticated = on_authenticated
        self._client: Leg | None = None
        self._token_at = 0.0
        self._decision = Decision(shared.deadlines)
        self._log = log.bind(session=self.id, address=str(peer))
        self._way: Way | None = None
        self._relay: Relay | None = None
        self._connected: Connected | None = None
        self._term: Term | None = None
        self._notices: Notices | None = None
        self._recorder = Recorder(shared.journal, shared.key, Chain(self.id))

    async def run(self) -> None:
        """Live this connection, from accept to close."""
        try:
            async with asyncio.timeout(self._shared.settings.auth_timeout_s):
                await self._identify()
                started = await self._negotiate()
                if started is None:
                    return
                admission = Admission(
                    shared=self._shared,
                    recorder=self._recorder,
                    peer=self._peer,
                    startup=started.startup,
                    log=self._log,
                )
                await self._authenticate(admission)
                self._on_authenticated()
                way = self._admit(admission)
                await self._take_place()
            await self._serve(started.startup, way)
        except Refused as refused:
            self._client = refused.leg
            await self._refuse(refused.error)
        except SessionError as error:
            await self._refuse(error)
        except TimeoutError:
            await self._refuse(AuthenticationTimeout())
        except ssl.SSLError as error:
            if error.reason in NO_CERTIFICATE:  # Other handshakes that fail are scanners', and nothing to write about.
                self._log.warning("no TLS: the client's certificate does not do", error=str(error))
        except (ClientGone, OSError):
            pass
        finally:
            self._close_socket()

    def _close_socket(self) -> None:
        if self._client is not None:
            self._client.transport.abort()
        else:
            self._sock.close()

    # negotiate

    async def _identify(self) -> None:
        """Learn from a trusted load balancer whom it connects for."""
        if self._peer.header is None:
            return
        try:
            self._peer = await read_header(self._sock, self._peer)
        except HeaderError as error:
            self._log.warning("a load balancer broke the PROXY protocol", error=str(error))
            raise ClientGone from error
        self._log = self._log.bind(address=str(self._peer), via=str(self._peer.via))
        self._on_identified(self._peer)

    async def _negotiate(self) -> Started | None:
        """Agree on encryption and read the startup packet; None where a cancel was all that was asked."""
        negotiation = Negotiation(
            self._sock,
            self._shared.tls.context_for,
            plaintext_allowed=self._peer.plaintext_allowed,
            on_unix=self._peer.on_unix,
        )
        asked = await negotiation.run()
        self._client = asked.leg
        if isinstance(asked, CancelAsked):
            if not self._peer.barred:
                await self._cancel(asked)
            if asked.leg is not None:
                await asked.leg.close()
            return None
        if self._peer.barred:
            raise UserBarred(f"uid {self._peer.uid} is not in proxy.unix_socket.users")
        return asked

    async def _cancel(self, asked: CancelAsked) -> None:
        session = self._shared.registry.find_by_cancel_key(asked.pid, asked.secret)
        self._shared.metrics.cancels += 1
        if session is not None:
            await session.cancel_running(str(self._peer))
        elif not await self._shared.cancel_elsewhere(asked.pid, asked.secret, str(self._peer)):
            self._log.info("cancel request with an unknown key", pid=asked.pid)

    # authenticate

    async def _authenticate(self, admission: Admission) -> None:
        """Ask for the token and verify it."""
        if (client := self._client) is None:
            raise ClientGone
        startup = admission.startup
        spoken = startup.spoken_minor
        if spoken != startup.minor or startup.unknown_options:
            client.write(messages.negotiate_protocol_version(spoken, startup.unknown_options))
        token = await self._asking.token(client)
        self._token_at = time.monotonic()
        verified = admission.verify(token)
        self.grant, self.signed_by = verified.grant, verified.key

    # admit

    def _admit(self, admission: Admission) -> Way:
        """Hold the connection against the grant and against what is in force, and count it in."""
        way = self._way = admission.judge(
            self.grant, certificate=None if self._client is None else thumbprint(self._client)
        )
        if self._shared.journal.fault is not None:
            # Its own attempt to record would say so too, but what it seals meanwhile would fill the journal's memory.
            raise JournalFailed(self._shared.journal.fault)
        try:
            self._shared.registry.admit(self)
        except NotAdmitted as error:
            raise admission.refused(error) from error
        return way

    async def _take_place(self) -> None:
        """Have control count the session too, where its grant is limited (DESIGN.md 4.5)."""
        if (quota := self._shared.quota) is not None:
            try:
                await quota.take(self.grant, self.id)
            except BaseException:
                self._shared.registry.leave(self)
                raise

    # dial, announce, relay, end

    async def _serve(self, startup: StartupMessage, way: Way) -> None:
        """From the admitted connection to the end of its session."""
        extension = self._shared.registry.extension_of(self.grant)
        term = self._term = Term(
            self._shared.deadlines,
            ends_at=self.grant.expires_at if extension is None else extension.expires_at,
            warn_before_s=self._shared.settings.warn_before_s,
            on_end=self._expire,
            on_warning=self._warn,
        )
        try:
            connected, ending = await self._open(startup, way, term.ends_at)
            try:
                cause = await self._run_relay()
            finally:
                self._shared.registry.drop_cancel_key(self, connected.pid)
            await ending.run(cause, scene=self._decision.scene, finish=self._decision.finish(cause))
        finally:
            term.close()
            self._decision.close()
            self._shared.registry.leave(self)
            if self._shared.quota is not None:
                self._shared.quota.give_back(self.id)
            if self._connected is not None:
                self._connected.leg.transport.abort()
            made = self._decision.made
            self._shared.accounts.released(self.id, made.result().reason if made.done() else None)

    async def _open(self, startup: StartupMessage, way: Way, ends_at: float) -> tuple[Connected, Ending]:
        """Get a backend, record the session's start, then tell the client that it is in."""
        if (client := self._client) is None:
            raise ClientGone
        opening = Opening(
            grant=self.grant,
            way=way,
            startup=startup,
            peer=self._peer,
            client=client,
            recorder=self._recorder,
            accounts=self._shared.accounts,
            session=self.id,
            ends_at=ends_at,
            proxy=self._shared.settings.name,
            log=self._log,
        )
        connected = self._connected = await opening.dial()
        backend = await opening.identify(connected)
        opening.record(backend)
        tracker = Tracker(way.profile.parameters, way.profile.copy_data)
        limit = self._shared.settings.max_message_bytes
        durable = way.link.settings.durability == "disk"
        self._relay = relay = Relay(client, connected.leg, tracker, self._recorder, limit=limit, durable=durable)
        self._notices = notices = Notices(relay, self.grant)
        self._decision.applies_to(relay, notices, finish_timeout_s=way.link.settings.finish_timeout_s)
        self._announce(client, connected, startup)
        if (extension := self._shared.registry.extension_of(self.grant)) is not None:
            notices.record(extension)
        return connected, Ending(
            shared=self._shared,
            backend=backend,
            grant=self.grant,
            client=client,
            connected=connected,
            relay=relay,
            recorder=self._recorder,
            log=self._log,
        )

    def _announce(self, client: Leg, connected: Connected, startup: StartupMessage) -> None:
        secret = self._shared.registry.add_cancel_key(self, connected.pid, SECRET_BYTES[startup.spoken_minor])
        key = messages.backend_key_data(connected.pid, secret)
        client.write(messages.AUTHENTICATION_OK + connected.announcement + key + READY_FOR_QUERY)
        server = str(connected.server.host)
        self._log.info(
            "session started", grant=self.grant.id, person=self.grant.person, target=self.grant.target, server=server
        )
        self._shared.metrics.sessions += 1

    async def _run_relay(self) -> Cause | Stop:
        """Relay until one side, a fault or a decision from outside ends it."""
        relay, client, connected = self._relay, self._client, self._connected
        if relay is None or self._way is None or client is None or connected is None:
            raise ClientGone
        made = self._decision.made
        if not made.done():
            relay.start()
        timeout_s = self._way.profile.idle_timeout_s
        watches: list[IdleWatch | VanishedWatch] = [VanishedWatch((client, connected.leg))]
        if timeout_s is not None:
            watches.append(IdleWatch(relay, timeout_s, self._be_idle))
        try:
            await asyncio.wait((relay.ended, made), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for watch in watches:
                watch.close()
        return made.result() if made.done() else self._decision.cause(relay.ended.result())

    # From outside.

    def stop(self, reason: EndReason, *, by: str | None, decided_at: int, at_once: bool = False) -> None:
        """End the session, wherever it is."""
        self._decision.take(Stop(reason=reason, by=by, decided_at=decided_at), self.grant, at_once=at_once)

    @property
    def finish_s(self) -> float:
        """How long a statement that is let finish may take; 0 where none is."""
        return self._decision.finish_s

    def extend(self, extension: Extension) -> None:
        """Go on until the grant's new end, unless the end was decided before; the person is told."""
        if self._decision.final or self._term is None or not self._term.extend(extension.expires_at):
            return
        if self._notices is not None:
            self._notices.extended(extension)

    @property
    def needs_lease(self) -> bool:
        """Whether it ends when control cannot be heard."""
        return self._way is not None and self._way.link.settings.lost_lease == "end-sessions"

    def uses(self, link: object) -> bool:
        """Whether it goes by this way to its target."""
        return self._way is not None and self._way.link is link

    def _expire(self) -> None:
        self.stop("expired", by=None, decided_at=time.time_ns())

    def _be_idle(self) -> None:
        self.stop("idle", by=None, decided_at=time.time_ns())

    async def cancel_running(self, address: str | None) -> None:
        """Forward a cancel request, if anything runs: a late one must not hit the next statement."""
        way, connected, relay = self._way, self._connected, self._relay
        if way is None or connected is None or relay is None:
            return
        running = relay.tracker.running
        forwarded = bool(running) and not self._decision.made.done()
        relay.record(Cancel(address=address, forwarded=forwarded, statement=running[0].statement if running else None))
        if forwarded:
            try:
                await way.link.dialler.cancel(connected.server, connected.pid, connected.secret)
            except UpstreamError as error:
                self._log.warning("cancel request not delivered", error=str(error))

    def _warn(self, seconds: float) -> None:
        if self._notices is not None and not self._decision.made.done():
            self._notices.ends_in(seconds)

    # Refusals.

    async def _refuse(self, error: SessionError) -> None:
        """Tell the client why not, and close. Before the startup packet there is nobody to tell."""
        if self._client is None:
            return
        if isinstance(error, NotAdmitted):
            await pace.until_due(self._token_at)
            await self._asking.decline(self._client)
        else:
            self._log.info("connection refused", sqlstate=error.sqlstate, error=str(error))
        self._client.write(error.as_message())
        await self._client.close()
