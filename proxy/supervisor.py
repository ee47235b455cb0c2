"""The supervisor: a proxy of several processes, each a whole proxy of its own on the same sockets.

Binds what clients connect to and hands it down, starts the workers, starts those again that die, passes on what signals
ask for, and answers the operators' port for all. It never accepts a connection, and knows nothing of sessions. What a
worker leaves when it dies is ended by the one that takes its place (`proxy.reaper`); if the supervisor dies, its
workers end by themselves (`proxy.worker`).
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import msgspec
import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from proxy import board, config, doors, orphans, places
from proxy.authority import gather
from proxy.backoff import Backoff
from proxy.board import AWAY, Board
from proxy.check import on_disk
from proxy.config import Configuration
from proxy.contract.settings import SettingsError
from proxy.doors import Door
from proxy.identity import load_or_create
from proxy.lines import Lines
from proxy.metrics import Metrics
from proxy.ops import OpsServer
from proxy.server import PARTING_S
from proxy.systemd import notify
from proxy.tasks import spawn
from proxy.totals import Family, Totals
from proxy.worker import Ask, Order, Role

FIRST_WAIT_S = 0.05
LAST_WAIT_S = 5.0
STEADY_S = 30.0
"""A worker that has lived so long has died of something new: the waits begin anew."""
LOOK_S = 0.02
"""How often a worker that starts is looked at."""
START_S = 60.0
MARGIN_S = 5.0
"""What workers get beyond their own time limits before they are killed."""

log = structlog.get_logger(__name__)


class SupervisorError(Exception):
    """The workers cannot be started. They have said why themselves."""


class Supervisor:
    """One proxy of several workers."""

    def __init__(self, path: Path, configuration: Configuration, environment: Mapping[str, str] = os.environ) -> None:
        self._path = path
        self._configuration = configuration
        self._settings = configuration.proxy
        """As they were at the start, and are for every worker in what counts from a start only."""
        self._limits = configuration.proxy
        """The newest, for how long stopping may take."""
        self._environment = environment
        self._numbers = range(1, configuration.proxy.workers + 1)
        self._doors: list[Door] = []
        self._mailboxes = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in self._numbers]
        self._memory = board.create(len(self._numbers))
        self._board = Board(self._memory, len(self._numbers))
        self._lines = Lines()
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._started = False
        self._failed = False
        self._signals = 0
        self._stopping = asyncio.Event()
        self._stopping_since = float("inf")
        self._order: Order = "drain"
        self._metrics = Metrics()
        self._metrics.gauge("curfew_workers", "Workers that accept connections.", self._accepting)
        self._ops: OpsServer | None = None

    async def run(self) -> bool:
        """Serve until a signal says otherwise; whether all workers have ended as they should.

        Raises SettingsError, IdentityError, OSError or SupervisorError where it cannot start.
        """
        self._prepare()
        keeping = [spawn(f"worker {number}", self._keep(number)) for number in self._numbers]
        try:
            await self._wait_until_started(keeping)
            if not self._stopping.is_set():
                self._serve()
            await self._stopping.wait()
            notify("STOPPING=1")
            await self._drain(keeping)
        finally:
            await self._close(keeping)
        return not self._failed

    # Starting.

    def _prepare(self) -> None:
        if faults := on_disk(self._configuration, self._environment):
            raise SettingsError(*faults)
        gather(self._settings, load_or_create(Path(self._settings.state_dir)))
        self._doors = doors.open_all(self._settings)
        for inbox, outbox in self._mailboxes:
            inbox.setblocking(False)  # noqa: FBT003 the socket module takes it by position
            outbox.setblocking(False)  # noqa: FBT003 as above
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signal)
        loop.add_signal_handler(signal.SIGHUP, lambda: spawn("reload", self._reload()))

    async def _wait_until_started(self, keeping: list[asyncio.Task[None]]) -> None:
        give_up = time.monotonic() + START_S * len(keeping)
        while self._accepting() < len(keeping) and not self._stopping.is_set():
            if any(task.done() for task in keeping):
                raise SupervisorError("a worker could not start; see above")
            if time.monotonic() > give_up:
                raise SupervisorError(f"the workers have not started within {START_S * len(keeping):.0f} s")
            await asyncio.sleep(LOOK_S)
        self._started = True

    def _serve(self) -> None:
        if self._settings.ops_listen:
            counts = _Counts(self, self._metrics.registry, self._lines)
            self._ops = OpsServer(*config.parse_listen(self._settings.ops_listen), counts, self)
            self._ops.start()
        log.info(
            "listening",
            ports=doors.ports(self._doors),
            sockets=doors.paths(self._doors),
            ops_port=self._ops.port if self._ops else None,
            workers=len(self._numbers),
        )
        notify("READY=1")

    # Keeping workers.

    async def _keep(self, number: int) -> None:
        """Have worker `number` run until the end. Returns early only where it never came to serve."""
        backoff = Backoff(FIRST_WAIT_S, LAST_WAIT_S)
        while True:
            began = time.monotonic()
            try:
                status = await self._run(number)
            except OSError as error:  # no process or no socket to be had at the moment
                log.error("a worker cannot be started", worker=number, error=str(error))  # noqa: TRY400 expected
                status = os.EX_OSERR
            if status == 0 and self._stopping.is_set():
                return
            log.error("a worker has died", worker=number, status=status)
            await self._have_orphans_ended(number)
            # One that was killed has not failed to start: an operator did that, or the kernel, for memory.
            could_not_start = not self._started and status != -signal.SIGKILL
            if could_not_start or (self._stopping.is_set() and began > self._stopping_since):
                self._failed = True  # it has had its second chance
                return
            if time.monotonic() - began > STEADY_S:
                backoff.reset()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), backoff.next_s())
            self._metrics.worker_restarts += 1

    async def _have_orphans_ended(self, number: int) -> None:
        """Have a worker that lives end what worker `number` has left: before that one comes back and has new ones."""
        living = sorted(self._processes, key=self._board.accepts, reverse=True)
        if not living:
            return
        journal = places.of_worker(Path(self._settings.state_dir), number).own / places.JOURNAL
        try:
            found = await asyncio.to_thread(orphans.find, journal)
        except OSError as error:
            log.warning("a dead worker's journal cannot be read", worker=number, error=str(error))
            return
        if found:
            log.warning("having a worker end what another one has left", worker=living[0], backends=len(found))
            self._lines.give(living[0], found)

    async def _run(self, number: int) -> int:
        """One life of worker `number`: its exit status."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *sys.orig_argv[1:],
                    "--worker",
                    stdin=theirs.fileno(),
                    env={name: value for name, value in self._environment.items() if name != "NOTIFY_SOCKET"},
                )
            self._hand_over(ours, number)
            self._processes[number] = process
            self._lines.open(number, ours)
            if self._stopping.is_set():
                self._lines.tell(number, self._order)
            try:
                return await process.wait()
            finally:
                self._lines.close(number)
                self._board.show(number, AWAY)
                self._processes.pop(number, None)

    def _hand_over(self, line: socket.socket, number: int) -> None:
        asks = [door.asks for door in self._doors]
        role = Role(
            number=number,
            of=len(self._numbers),
            settings=self._settings,
            asks=asks,
            path=str(self._path),
            configuration=self._configuration,
        )
        outboxes = [outbox for _, outbox in self._mailboxes]
        sockets = [self._mailboxes[number - 1][0], *outboxes, *(door.listening for door in self._doors)]
        with os.fdopen(os.memfd_create("curfew-role", os.MFD_CLOEXEC), "wb") as told, contextlib.suppress(OSError):
            # Where it has died already, `wait` says so.
            told.write(msgspec.json.encode(role))
            told.flush()
            socket.send_fds(line, [b"\0"], [told.fileno(), self._memory, *(one.fileno() for one in sockets)])

    def _accepting(self) -> int:
        return sum(self._board.accepts(number) for number in self._numbers)

    # Signals.

    def _signal(self) -> None:
        self._signals += 1
        if self._signals > 1:
            log.warning("second signal: ending all sessions now")
        self._stop("drain" if self._signals == 1 else "end")

    def _stop(self, order: Order) -> None:
        """Take no new connections, and have the workers stop: after a while (drain), or at once (end)."""
        self._order = order
        self._stopping_since = min(self._stopping_since, time.monotonic())
        self._stopping.set()
        for door in self._doors:
            door.close()
        self._doors.clear()
        for number in self._processes:
            self._lines.tell(number, order)

    async def _reload(self) -> None:
        """Have the workers read the configuration anew; not, where it is none."""
        try:
            configuration = await asyncio.to_thread(config.load, self._path, self._environment)
            if faults := await asyncio.to_thread(on_disk, configuration, self._environment):
                raise SettingsError(*faults)
        except SettingsError as error:
            log.error("the configuration was not reloaded", faults=error.faults)  # noqa: TRY400 a message, not a crash
            return
        self._configuration, self._limits = configuration, configuration.proxy
        for number in self._processes:
            self._lines.tell(number, "reload")

    # Stopping.

    async def _drain(self, keeping: Collection[asyncio.Task[None]]) -> None:
        limits = self._limits
        log.info("draining", timeout_s=limits.drain_timeout_s)
        finish_s = max((target.finish_timeout_s for target in self._configuration.targets.values()), default=0.0)
        stop_s = finish_s + 2 * limits.stop_timeout_s + PARTING_S
        await asyncio.wait(keeping, timeout=limits.drain_timeout_s + stop_s + MARGIN_S)

    async def _close(self, keeping: Collection[asyncio.Task[None]]) -> None:
        """End whatever is left, by force in the end, and give everything back."""
        if not all(task.done() for task in keeping):
            self._failed = True
            self._stop("end")
            await asyncio.wait(keeping, timeout=2 * self._limits.stop_timeout_s + PARTING_S + MARGIN_S)
        left = list(self._processes.values())
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)
        for process in left:
            log.critical("a worker does not end: killing it", pid=process.pid)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if self._ops is not None:
            await asyncio.to_thread(self._ops.close)
        for door in self._doors:
            door.close()
        for one in (end for pair in self._mailboxes for end in pair):
            one.close()
        self._board.close()
        os.close(self._memory)
        log.info("stopped")

    # For operators; called from the ops server's thread.

    def answering(self) -> dict[int, int]:
        """The workers that can be asked, with their process ids."""
        stopping = self._stopping.is_set()
        return {
            number: process.pid
            for number, process in self._processes.copy().items()
            if stopping or self._board.accepts(number)
        }

    def faults(self, probe: Ask) -> list[str]:
        """What the workers answer to a probe, and which of them do not."""
        asked = self.answering()
        answers = self._lines.ask(probe, asked)
        faults = [f"worker {number}: does not answer" for number in asked if number not in answers]
        for number, answer in answers.items():
            faults += [f"worker {number}: {fault}" for fault in answer]
        return faults

    def readyz(self) -> list[str]:
        """Why no connections should be sent here, if so."""
        if self._stopping.is_set():
            return ["draining"]
        missing = [number for number in self._numbers if not self._board.accepts(number)]
        return [f"worker {number}: accepts no connections" for number in missing] + self.faults("readyz")

    def livez(self) -> list[str]:
        """Why the processes should be restarted, if they should. One that is being restarted is no reason."""
        return self.faults("livez")


class _Counts(Collector):
    """What all processes count, asked for whenever somebody wants to know."""

    def __init__(self, supervisor: Supervisor, own: CollectorRegistry, lines: Lines) -> None:
        self.registry = CollectorRegistry()
        self._supervisor = supervisor
        self._own = own
        self._lines = lines
        self._totals = Totals()
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield the sums (prometheus_client's Collector)."""
        pids = self._supervisor.answering()
        for number, answer in self._lines.ask("metrics", pids).items():
            self._totals.take(pids[number], msgspec.convert(answer, list[Family]))
        self._totals.retire_all_but(pids.values())
        yield from self._totals.add_up(self._own)
