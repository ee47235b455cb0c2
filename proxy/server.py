"""The proxy process: starts everything, welcomes connections, reloads, drains, and stops everything.

Owns the life of what sessions share (`proxy.shared`). It never looks into a session.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from proxy import config, listener, tasks
from proxy.authority import ControlSide
from proxy.bearer import Asking, OAuthBearer, Password
from proxy.check import JOURNAL, on_disk
from proxy.clock import Deadlines
from proxy.config import Configuration
from proxy.contract.settings import Secret, SettingsError
from proxy.identity import load_or_create
from proxy.journal import Journal, JournalError
from proxy.lobby import Lobby
from proxy.metrics import Metrics
from proxy.ops import Health, OpsServer
from proxy.peer import Origins, Peer, gid
from proxy.reaper import reap
from proxy.registry import Registry
from proxy.session import Session
from proxy.shared import Shared, TargetLink
from proxy.stop import Keeper
from proxy.systemd import notify
from proxy.tasks import spawn
from proxy.tls import ServerTls
from proxy.upstream import Dialler

FLUSH_S = 0.01
"""How long a record of what has happened may wait in memory."""
PARTING_S = 5.0
"""How long sessions may take to end once they are told to, beyond the stop timeout."""
RETIRE_POLL_S = 1.0
FIXED = ("name", "listen", "oauth", "unix_socket", "ops_listen", "state_dir", "journal", "control")
"""Options of [proxy] that count from the next start only."""

log = structlog.get_logger(__name__)


class Server:
    """One proxy process."""

    def __init__(self, path: Path, configuration: Configuration, environment: Mapping[str, str] = os.environ) -> None:
        self._path = path
        self._environment = environment
        self._configuration = configuration
        self._metrics = Metrics()
        self._lobby = Lobby(self._metrics)
        self._health = Health(self._faults)
        self._listening: list[socket.socket] = []
        self._socket_files: list[listener.SocketFile] = []
        self._background: list[asyncio.Task[Any]] = []
        self._accepting: list[asyncio.Task[Any]] = []
        self._sessions: set[asyncio.Task[None]] = set()
        self._signals = 0
        self._signalled = asyncio.Event()
        self._ops: OpsServer | None = None
        self._origins: Origins
        self._shared: Shared
        self._control: ControlSide

    async def run(self) -> None:
        """Serve until a signal says otherwise. Raises SettingsError, JournalError or OSError where it cannot start."""
        try:
            await self._start()
            notify("READY=1")
            await self._signalled.wait()
            notify("STOPPING=1")
            await self._drain()
        finally:
            await self._close()

    @property
    def ports(self) -> list[int]:
        """The ports that clients can connect to."""
        return [one.getsockname()[1] for one in self._listening if one.family != socket.AF_UNIX]

    # Starting.

    async def _start(self) -> None:
        proxy = self._configuration.proxy
        if faults := on_disk(self._configuration, self._environment):
            raise SettingsError(*faults)
        self._origins = Origins(proxy)
        state = Path(proxy.state_dir)
        key = load_or_create(state)
        journal = Journal.open(
            state / JOURNAL, segment_bytes=proxy.journal.segment_bytes, limit_bytes=proxy.journal.limit_bytes
        )
        registry = Registry(max_sessions=proxy.max_sessions)
        self._control = ControlSide(proxy, key=key, journal=journal, registry=registry, environment=self._environment)
        self._shared = Shared(
            settings=proxy,
            tls=ServerTls(proxy),
            targets=self._links(self._configuration, {}),
            authority=self._control.authority,
            has_lease=self._control.has_lease,
            registry=registry,
            journal=journal,
            key=key,
            deadlines=Deadlines(),
            metrics=self._metrics,
        )
        self._show_gauges()
        await self._start_keepers(self._shared.targets)
        self._background = [
            spawn("deadlines", self._shared.deadlines.run()),
            spawn("flush", self._flush()),
            spawn("control", self._control.run()),
            spawn("certificates", self._renew_certificates()),
            spawn("reaper", reap(self._shared)),
        ]
        self._listen(proxy)

    def _links(self, configuration: Configuration, known: Mapping[str, TargetLink]) -> dict[str, TargetLink]:
        """The ways to all targets; those of unchanged targets are kept as they are."""

        def read_secret(secret: Secret | None) -> str | None:
            return config.read_secret(secret, self._environment)

        return {
            name: known[name]
            if name in known and known[name].settings == target
            else TargetLink(
                name=name,
                settings=target,
                dialler=Dialler(name, target, read_secret=read_secret),
                keepers={host: Keeper(name, target.at(host), read_secret=read_secret) for host in target.hosts},
            )
            for name, target in configuration.targets.items()
        }

    async def _start_keepers(self, links: Mapping[str, TargetLink]) -> None:
        await asyncio.gather(*(keeper.start() for link in links.values() for keeper in link.keepers.values()))
        for link in links.values():
            for host, keeper in link.keepers.items():
                for warning in keeper.warnings:
                    log.warning("the keeper lacks a right", target=link.name, host=str(host), warning=warning)

    def _listen(self, proxy: config.ProxySettings) -> None:
        # Before anybody can see that we are there: a SIGHUP that is not handled ends the process.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signal)
        loop.add_signal_handler(signal.SIGHUP, lambda: spawn("reload", self._reload()))
        listener.raise_descriptor_limit()
        for listen, welcome in ((proxy.listen, self._welcome), (proxy.oauth.listen, self._welcome_by_oauth)):
            for text in listen:
                for listening in self._bind(*config.parse_listen(text), proxy.unix_socket):
                    accepting = listener.accept(listening, welcome, self._lobby.drop_oldest)
                    self._accepting.append(spawn("accept", accepting))
        if proxy.ops_listen:
            self._ops = OpsServer(*config.parse_listen(proxy.ops_listen), self._metrics, self._health)
            self._ops.start()
        sockets = [file.path for file in self._socket_files]
        log.info("listening", ports=self.ports, sockets=sockets, ops_port=self._ops.port if self._ops else None)

    def _bind(self, host: str, port: int, unix: config.UnixSocket) -> list[socket.socket]:
        if host.startswith("/"):
            listening, file = listener.bind_unix(config.unix_path(host, port), mode=int(unix.mode, 8), gid=gid(unix))
            self._socket_files.append(file)
            bound = [listening]
        else:
            bound = listener.bind(host, port)
        self._listening += bound
        return bound

    def _show_gauges(self) -> None:
        shared, metrics = self._shared, self._metrics
        metrics.gauge("curfew_sessions_live", "Sessions admitted and not over.", lambda: len(shared.registry))
        metrics.gauge("curfew_unauthenticated", "Connections without a token yet.", lambda: len(self._lobby))
        metrics.gauge("curfew_journal_bytes", "The journal's size.", lambda: shared.journal.total_bytes)
        metrics.gauge(
            "curfew_journal_unacknowledged_bytes",
            "What control does not have yet.",
            lambda: shared.journal.unacknowledged_bytes,
        )
        metrics.gauge("curfew_lease", "1 while control can be heard.", shared.has_lease)
        metrics.gauge("curfew_tasks", "Tasks that run.", tasks.running)

    def _faults(self) -> list[str]:
        """Why no connections should be sent here."""
        if self._signals:
            return ["draining"]
        shared = self._shared
        faults = [] if shared.authority() is not None else ["no key set: control was never reached"]
        faults += [] if shared.has_lease() else ["no lease: control cannot be heard"]
        faults += [f"the journal: {shared.journal.fault}"] if shared.journal.fault else []
        ready = {name: any(one.ready for one in link.keepers.values()) for name, link in shared.targets.items()}
        faults += [f"target {name}: no keeper" for name in ready if not ready[name]]
        return faults

    # Serving.

    def _welcome(self, accepted: socket.socket, address: str) -> None:
        """Begin a session whose token is asked for as a password."""
        self._begin(accepted, self._origins.of(accepted, address), Password())

    def _welcome_by_oauth(self, accepted: socket.socket, address: str) -> None:
        """Begin one whose token is asked for by OAUTHBEARER, never in clear text (RFC 7628, section 4)."""
        oauth, authority = self._configuration.proxy.oauth, self._shared.authority()
        issuer = oauth.issuer or (authority.issuer if authority is not None else "")
        peer = replace(self._origins.of(accepted, address), plaintext_allowed=False)
        self._begin(accepted, peer, OAuthBearer(issuer=issuer, scope=oauth.scope))

    def _begin(self, accepted: socket.socket, peer: Peer, asking: Asking) -> None:
        proxy = self._shared.settings
        self._metrics.connections += 1
        if len(self._sessions) >= proxy.max_connections:
            self._metrics.connections_refused["connections"] += 1
            accepted.close()
            return
        session = Session(
            self._shared,
            accepted,
            peer,
            asking=asking,
            on_identified=lambda known: self._lobby.identify(
                task, str(known), limit_per_address=self._shared.settings.max_unauthenticated_per_address
            ),
            on_authenticated=lambda: self._lobby.leave(task),
        )
        task = spawn(f"session {session.id}", session.run())
        self._sessions.add(task)
        task.add_done_callback(self._sessions.discard)
        keepers = sum(len(link.keepers) for link in self._shared.targets.values())
        room = listener.descriptors_for_guests(sessions=len(self._shared.registry), targets=keepers)
        self._lobby.enter(
            task,
            None if peer.header is not None else str(peer),
            limit=min(proxy.max_unauthenticated, room),
            limit_per_address=proxy.max_unauthenticated_per_address,
        )

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            self._health.beat()
            with contextlib.suppress(JournalError):  # It has said so itself, and refuses statements by itself.
                self._shared.journal.flush()

    async def _reload(self) -> None:
        """Read the configuration anew. What is wrong with it is logged, and everything stays as it was."""
        try:
            configuration = await asyncio.to_thread(config.load, self._path, self._environment)
            if faults := await asyncio.to_thread(on_disk, configuration, self._environment):
                raise SettingsError(*faults)
            before = self._shared.targets
            links = self._links(configuration, before)
            tls, origins = ServerTls(configuration.proxy), Origins(configuration.proxy)
            self._control.reload(configuration.proxy)
        except SettingsError as error:
            log.error("the configuration was not reloaded", faults=error.faults)  # noqa: TRY400 a message, not a crash
            return
        fixed = [name for name in FIXED if getattr(configuration.proxy, name) != getattr(self._shared.settings, name)]
        if fixed:
            log.warning("these options of [proxy] count from the next start", options=fixed)
        await self._start_keepers({name: link for name, link in links.items() if before.get(name) is not link})
        self._shared.targets, self._shared.tls, self._origins = links, tls, origins
        self._shared.settings = configuration.proxy
        self._shared.registry.max_sessions = configuration.proxy.max_sessions
        for name, link in before.items():
            if links.get(name) is not link:
                self._background.append(spawn(f"retire {name}", self._retire(link)))
        log.info("configuration reloaded", targets=sorted(links))

    async def _renew_certificates(self) -> None:
        """Take up certificates that have changed; while they do not fit (one file is there, one not yet), wait."""
        while True:
            await asyncio.sleep(self._shared.settings.tls_renew_s)
            before = self._shared.tls
            try:
                renewed = await asyncio.to_thread(before.renewed)
            except SettingsError as error:
                log.warning("new certificates cannot be used; the old ones stay", faults=error.faults)
                continue
            if renewed is not None and self._shared.tls is before:
                self._shared.tls = renewed
                log.info("new certificates taken up")

    async def _retire(self, link: TargetLink) -> None:
        """Close a replaced target's keeper once no session needs it."""
        while any(session.uses(link) for session in self._shared.registry):  # noqa: ASYNC110 rare, and nobody waits
            await asyncio.sleep(RETIRE_POLL_S)
        await asyncio.gather(*(keeper.close() for keeper in link.keepers.values()))

    # Stopping.

    def _signal(self) -> None:
        self._signals += 1
        self._signalled.set()
        if self._signals > 1:
            log.warning("second signal: ending all sessions now")
            self._shared.registry.stop_all("drained")

    async def _drain(self) -> None:
        """Take no new connections, let sessions end by themselves for a while, then end them."""
        for task in self._accepting:
            task.cancel()
        self._stop_listening()
        while self._lobby.drop_oldest():
            pass
        proxy = self._shared.settings
        log.info("draining", sessions=len(self._shared.registry), timeout_s=proxy.drain_timeout_s)
        await self._wait_for_sessions(proxy.drain_timeout_s)
        self._shared.registry.stop_all("drained")
        await self._wait_for_sessions(proxy.stop_timeout_s + PARTING_S)

    def _stop_listening(self) -> None:
        for file in self._socket_files:
            file.remove()
        for listening in self._listening:
            listening.close()

    async def _wait_for_sessions(self, seconds: float) -> None:
        if self._sessions:
            await asyncio.wait(list(self._sessions), timeout=seconds)

    async def _close(self) -> None:
        """Give everything back."""
        for task in (*self._accepting, *self._sessions, *self._background):
            task.cancel()
        for task in (*self._accepting, *self._sessions, *self._background):
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        self._stop_listening()
        if self._ops is not None:
            self._ops.close()
        if hasattr(self, "_shared"):
            keepers = [keeper for link in self._shared.targets.values() for keeper in link.keepers.values()]
            await asyncio.gather(*(keeper.close() for keeper in keepers))
            try:
                self._shared.journal.close()
            except JournalError as error:
                log.critical("the journal could not be closed", error=str(error))
        log.info("stopped")
