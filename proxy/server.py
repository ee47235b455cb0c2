"""A process that serves: the proxy, or one of its workers. Starts all, welcomes connections, reloads, drains, stops.

Owns the life of what sessions share (`proxy.shared`). It never looks into a session.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy import config, doors, gauges, leftovers, links, listener, orphans, places, totals
from proxy.account_ledger import Ledger
from proxy.account_password import Passwords
from proxy.accounts import Accounts, adopt_all
from proxy.authority import ControlSide, gather
from proxy.check import on_disk
from proxy.clock import Deadlines
from proxy.config import Configuration
from proxy.contract.settings import SettingsError
from proxy.doors import Door
from proxy.identity import load_or_create
from proxy.journal import Journal, JournalError
from proxy.mail import Mail
from proxy.metrics import Metrics
from proxy.ops import Health, OpsServer
from proxy.peer import Origins
from proxy.reaper import reap
from proxy.reception import Reception
from proxy.registry import Registry
from proxy.shared import Shared
from proxy.slots import Slots
from proxy.systemd import notify
from proxy.tasks import spawn
from proxy.tls import ServerTls
from proxy.worker import Line, Order, Worker, share

FLUSH_S = 0.01
"""How long a record of what has happened may wait in memory."""
PARTING_S = 5.0
"""How long sessions may take to end once they are told to, beyond the stop timeout."""
FIXED = ("name", "listen", "oauth", "unix_socket", "ops_listen", "state_dir", "workers", "journal", "control")
"""Options of [proxy] that count from the next start only."""

log = structlog.get_logger(__name__)


class Server:
    """One process that serves."""

    def __init__(
        self,
        path: Path,
        configuration: Configuration,
        environment: Mapping[str, str] = os.environ,
        worker: Worker | None = None,
    ) -> None:
        """`worker` says which one of several this process is to be."""
        self._path = path
        self._environment = environment
        self._worker = worker
        self._fixed = configuration.proxy if worker is None else worker.role.settings
        self._configuration = replace(configuration, proxy=self._in_force(configuration.proxy))
        self._metrics = Metrics()
        self._health = Health(self._faults)
        self._doors: list[Door] = []
        self._background: list[asyncio.Task[Any]] = []
        self._accepting: list[asyncio.Task[Any]] = []
        self._signals = 0
        self._stopping = False
        self._signalled = asyncio.Event()
        self._ops: OpsServer | None = None
        self._mail: Mail | None = None
        self._slots: Slots | None = None
        self._reaping: asyncio.Task[None]
        self._reception: Reception
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
        return doors.ports(self._doors)

    def _in_force(self, settings: config.ProxySettings) -> config.ProxySettings:
        """`settings` as they count here: with what is fixed since the start, and of the limits a worker's share."""
        kept = msgspec.structs.replace(settings, **{name: getattr(self._fixed, name) for name in FIXED})
        return kept if self._worker is None else share(kept, self._worker.role.of)

    # Starting.

    async def _start(self) -> None:
        proxy = self._configuration.proxy
        if self._worker is None and (faults := on_disk(self._configuration, self._environment)):
            raise SettingsError(*faults)
        origins = Origins(proxy)
        home = Path(proxy.state_dir)
        key = load_or_create(home)
        if self._worker is None:
            gather(proxy, key)
            place = places.of_single(home)
        else:
            place = places.of_worker(home, self._worker.number)
            place.own.mkdir(mode=0o700, exist_ok=True)
            self._slots = Slots(home)
        journal = Journal.open(place.own / places.JOURNAL, **msgspec.structs.asdict(proxy.journal))
        registry = Registry(max_sessions=proxy.max_sessions, slots=self._slots, proxy=proxy.name)
        self._control = ControlSide(
            proxy,
            key=key,
            journal=journal,
            registry=registry,
            environment=self._environment,
            place=place,
            on_reap=lambda directive: spawn("reap", orphans.reap(directive, self._shared)),
            on_revoked=lambda grant: self._shared.accounts.revoked(grant),  # noqa: PLW0108 there is no `_shared` yet
            on_extended=lambda one: spawn("extend", self._shared.accounts.extend(one.grant, one.expires_at)),
        )
        self._shared = Shared(
            settings=proxy,
            tls=ServerTls(proxy),
            targets=links.make(self._configuration, {}, self._environment),
            authority=self._control.authority,
            has_lease=self._control.has_lease,
            registry=registry,
            journal=journal,
            key=key,
            deadlines=Deadlines(),
            metrics=self._metrics,
            quota=self._control.quota,
            accounts=self._make_accounts(place, key),
        )
        self._reception = Reception(self._shared, origins, self._show_load)
        gauges.show(self._shared, self._reception.lobby)
        await links.start(self._shared.targets)
        self._reaping = spawn("reaper", self._reap(journal))
        self._background = [
            spawn("deadlines", self._shared.deadlines.run()),
            spawn("flush", self._flush()),
            spawn("control", self._control.run()),
            spawn("certificates", self._renew_certificates()),
            spawn("accounts", self._shared.accounts.run()),
            self._reaping,
        ]
        if place.first:
            self._see_to_leftovers(home, proxy.workers)
        if self._worker is None:
            self._listen(proxy)
        else:
            self._serve_as(self._worker)

    async def _reap(self, journal: Journal) -> None:
        await reap(self._shared, journal)
        if self._control.quota is not None:
            self._control.quota.be_alone()

    def _make_accounts(self, place: places.Place, key: Ed25519PrivateKey) -> Accounts:
        return Accounts(
            lambda: self._shared.targets,
            ledger=Ledger.open(place.own),
            passwords=Passwords(key),
            metrics=self._metrics,
            sweeps=place.first,
        )

    def _see_to_leftovers(self, home: Path, workers: int) -> None:
        """Look after what is nobody's any more, since the proxy had another number of workers once."""
        if left := places.owned_by_nobody(home, workers):
            self._background.append(spawn("left-over ledgers", adopt_all(left, self._shared.accounts)))
        if left := places.left_behind(home, workers):
            self._background.append(
                spawn("left-over journals", leftovers.see_to(left, self._shared, self._control.ships))
            )

    def _listen(self, proxy: config.ProxySettings) -> None:
        # Before anybody can see that we are there: a SIGHUP that is not handled ends the process.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signal)
        loop.add_signal_handler(signal.SIGHUP, lambda: spawn("reload", self._reload()))
        listener.raise_descriptor_limit()
        self._doors = doors.open_all(proxy)
        self._accept()
        if proxy.ops_listen:
            self._ops = OpsServer(*config.parse_listen(proxy.ops_listen), self._metrics, self._health)
            self._ops.start()
        sockets, ops_port = doors.paths(self._doors), self._ops.port if self._ops else None
        log.info("listening", ports=self.ports, sockets=sockets, ops_port=ops_port)

    def _accept(self, my_turn: Callable[[], bool] | None = None) -> None:
        reception = self._reception
        welcomes = {"password": reception.welcome, "oauth": reception.welcome_by_oauth}
        self._accepting = [
            spawn("accept", listener.accept(one.listening, welcomes[one.asks], reception.lobby.drop_oldest, my_turn))
            for one in self._doors
        ]

    def _serve_as(self, worker: Worker) -> None:
        """Accept from the sockets that all workers share, and do what the supervisor says."""
        listener.raise_descriptor_limit()
        self._mail = Mail(worker.number, worker.inbox, worker.outboxes, self._cancel)
        self._mail.open()
        self._shared.cancel_elsewhere = self._mail.ask
        self._doors = worker.doors
        worker.show(0)
        self._accept(worker.may_accept)
        line = Line(
            worker.line,
            answers={
                "metrics": lambda: totals.read(self._metrics.registry),
                "livez": self._health.livez,
                "readyz": self._health.readyz,
            },
            obey=self._obey,
            adopt=lambda left: spawn("orphans", orphans.end(left, self._shared)),
            lost=self._end_alone,
            grace_s=lambda: self._shared.settings.stop_timeout_s + 2 * PARTING_S,
        )
        # Before the supervisor can hear that it does: whoever is told READY finds it in the log.
        log.info("accepting", ports=self.ports, sockets=doors.paths(self._doors))
        line.start()

    def _cancel(self, pid: int, secret: bytes, address: str) -> Awaitable[None] | None:
        """Cancel for another worker, if the key is one of this worker's."""
        session = self._shared.registry.find_by_cancel_key(pid, secret)
        return None if session is None else session.cancel_running(address)

    def _obey(self, order: Order) -> None:
        match order:
            case "reload":
                spawn("reload", self._reload())
            case "drain":
                self._stop(now=False)
            case "end":
                self._stop(now=True)

    def _end_alone(self) -> None:
        log.error("the supervisor is dead: ending all sessions now")
        self._stop(now=True)

    def _faults(self) -> list[str]:
        """Why no connections should be sent here."""
        return ["draining"] if self._stopping else gauges.faults(self._shared)

    # Serving.

    def _show_load(self, connections: int) -> None:
        if self._worker is not None and not self._stopping:
            self._worker.show(connections)

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
            targets = links.make(configuration, before, self._environment)
            tls, origins = ServerTls(configuration.proxy), Origins(configuration.proxy)
            self._control.reload(configuration.proxy)
        except SettingsError as error:
            log.error("the configuration was not reloaded", faults=error.faults)  # noqa: TRY400 a message, not a crash
            return
        fixed = [name for name in FIXED if getattr(configuration.proxy, name) != getattr(self._fixed, name)]
        if fixed:
            log.warning("these options of [proxy] count from the next start", options=fixed)
        await links.start({name: link for name, link in targets.items() if before.get(name) is not link})
        self._shared.targets, self._shared.tls, self._reception.origins = targets, tls, origins
        self._shared.settings = self._in_force(configuration.proxy)
        self._shared.registry.max_sessions = configuration.proxy.max_sessions
        for name, link in before.items():
            if targets.get(name) is not link:
                self._background.append(spawn(f"retire {name}", links.retire(link, self._shared.registry)))
        log.info("configuration reloaded", targets=sorted(targets))

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

    # Stopping.

    def _signal(self) -> None:
        self._signals += 1
        if self._signals > 1:
            log.warning("second signal: ending all sessions now")
        self._stop(now=self._signals > 1)

    def _stop(self, *, now: bool) -> None:
        self._stopping = True
        self._signalled.set()
        if now:
            self._shared.registry.stop_all("drained", at_once=True)

    async def _drain(self) -> None:
        """Take no new connections, let sessions end by themselves for a while, then end them."""
        for task in self._accepting:
            task.cancel()
        self._stop_listening()
        if self._worker is not None:
            self._worker.show_away()
        self._reception.empty_the_lobby()
        proxy = self._shared.settings
        log.info("draining", sessions=len(self._shared.registry), timeout_s=proxy.drain_timeout_s)
        await self._reception.wait(proxy.drain_timeout_s)
        finish_s = self._shared.registry.stop_all("drained")
        await self._reception.wait(finish_s + proxy.stop_timeout_s + PARTING_S)
        await asyncio.wait([self._reaping], timeout=proxy.stop_timeout_s)

    def _stop_listening(self) -> None:
        for door in self._doors:
            door.close()

    async def _close(self) -> None:
        """Give everything back."""
        sessions = self._reception.sessions if hasattr(self, "_reception") else ()
        running = (*self._accepting, *sessions, *self._background)
        for task in running:
            task.cancel()
        for task in running:
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        self._stop_listening()
        if self._ops is not None:
            self._ops.close()
        if self._mail is not None:
            self._mail.close()
        if hasattr(self, "_shared"):
            await self._shared.accounts.close()
            await links.close(self._shared.targets.values())
            try:
                self._shared.journal.close()
            except JournalError as error:
                log.critical("the journal could not be closed", error=str(error))
        log.info("stopped")
