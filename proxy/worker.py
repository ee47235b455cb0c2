"""A worker's side of the supervisor: who it is, what it was handed, and the line between the two.

The line is a socket pair, the worker's end of it its standard input. It brings the role with the shared descriptors,
then questions (how are you, what have you counted) and orders (reload, drain, end now). That it breaks means that the
supervisor is dead: the worker ends its sessions, verified, and itself. A worker takes no orders by signals, for those
reach the whole process group from a terminal, and the whole control group from systemd.
"""

import asyncio
import contextlib
import contextvars
import os
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import msgspec
import structlog

from proxy.board import AWAY, Board
from proxy.config import Configuration, ProxySettings
from proxy.contract.directive import Orphan
from proxy.doors import Asks, Door

LETTER_BYTES = 1_048_576
MOST_DESCRIPTORS = 200
LOST = 70
"""The exit status of a worker that could not end by itself: its event loop hung (EX_SOFTWARE)."""
LOOK_S = 1.0
MOST_LOOKS = 15
"""So often in a row the event loop may be found hanging, which it does after 5 s (`proxy.ops`). A machine that was
suspended has all the looks still before it."""

Ask: TypeAlias = Literal["metrics", "livez", "readyz"]
Order: TypeAlias = Literal["reload", "drain", "end"]

log = structlog.get_logger(__name__)


class WorkerError(Exception):
    """This process was started as a worker, but not by a supervisor."""


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """What a supervisor tells a new worker. Descriptors go along: board, inbox, outboxes, listening sockets.

    Itself it goes along in a file without a name, since a configuration may be longer than a letter.
    """

    number: int
    """From 1."""
    of: int
    settings: ProxySettings
    """The supervisor's. What counts from a start only is the same for all workers, whatever the file says by now."""
    asks: list[Asks]
    """How a token is asked for, for each of the listening sockets, in their order."""
    path: str
    """The configuration file, for a reload."""
    configuration: Configuration
    """What is in force. The file may be anything by now, and who takes a dead worker's place must start even so."""


class Question(msgspec.Struct, frozen=True, kw_only=True, tag="question"):
    """What the supervisor wants to know."""

    number: int
    ask: Ask


class Command(msgspec.Struct, frozen=True, kw_only=True, tag="command"):
    """What the supervisor wants done. It has no answer."""

    order: Order


class Adopt(msgspec.Struct, frozen=True, kw_only=True, tag="adopt"):
    """What another worker has left, to be ended. It has no answer either."""

    orphans: list[Orphan]


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to the question of this number."""

    number: int
    answer: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """This process, where it is one of several."""

    role: Role
    line: socket.socket
    board: Board
    inbox: socket.socket
    outboxes: tuple[socket.socket, ...]
    doors: list[Door]

    @property
    def number(self) -> int:
        """Which one, from 1."""
        return self.role.number

    def show(self, connections: int) -> None:
        """Have the others see how many connections there are here."""
        self.board.show(self.number, connections)

    def show_away(self) -> None:
        """Have the others see that nothing is accepted here."""
        self.board.show(self.number, AWAY)

    def may_accept(self) -> bool:
        """Whether a new connection is this worker's to take at once."""
        return self.board.has_fewest(self.number)


def take_up() -> Worker:
    """Be the worker that standard input says. Raises WorkerError."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        line = socket.socket(fileno=os.dup(0))
        _, descriptors, _, _ = socket.recv_fds(line, 1, MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        told, board, *sockets = descriptors
        with os.fdopen(told, "rb") as file:
            file.seek(0)
            role = msgspec.json.decode(file.read(), type=Role)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise WorkerError("--worker is for the supervisor; start the proxy with `curfew-proxy serve`") from error
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # else what this process starts would have the line, too
    os.close(nothing)
    made = [socket.socket(fileno=one) for one in sockets]
    listening = made[1 + role.of :]
    if len(listening) != len(role.asks):
        raise WorkerError("not all that the supervisor has handed over has arrived; raise the limit (ulimit -n)")
    mapped = Board(board, role.of)
    os.close(board)
    return Worker(
        role=role,
        line=line,
        board=mapped,
        inbox=made[0],
        outboxes=tuple(made[1 : 1 + role.of]),
        doors=[Door(listening=one, asks=asks) for one, asks in zip(listening, role.asks, strict=True)],
    )


def share(settings: ProxySettings, workers: int) -> ProxySettings:
    """One worker's part of the limits that are for the whole proxy, but for `max_sessions`: see `proxy.slots`."""
    return msgspec.structs.replace(
        settings,
        max_connections=settings.max_connections // workers,
        max_unauthenticated=settings.max_unauthenticated // workers,
        max_unauthenticated_per_address=settings.max_unauthenticated_per_address // workers,
        journal=msgspec.structs.replace(
            settings.journal,
            segment_bytes=settings.journal.segment_bytes // workers,
            limit_bytes=settings.journal.limit_bytes // workers,
        ),
    )


class Line:
    """Answers the supervisor, in a thread of its own: what it asks for is most wanted when the event loop hangs."""

    def __init__(
        self,
        line: socket.socket,
        *,
        answers: Mapping[Ask, Callable[[], Any]],
        obey: Callable[[Order], None],
        adopt: Callable[[list[Orphan]], object],
        lost: Callable[[], None],
        grace_s: Callable[[], float],
    ) -> None:
        """`obey`, `adopt` and `lost` are called in the running event loop; `grace_s` is what `lost` may take."""
        self._line = line
        self._answers = answers
        self._obey = obey
        self._adopt = adopt
        self._lost = lost
        self._grace_s = grace_s
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        """What the log says of this process goes along into what is called; a thread has none of it by itself."""
        self._broken = threading.Event()

    def start(self) -> None:
        """Begin."""
        for name, target in (("line", self._serve), ("watch", self._watch)):
            threading.Thread(target=target, name=name, daemon=True).start()

    def _watch(self) -> None:
        """End this process where its event loop hangs: nobody ends its sessions then, whatever their grants say.

        It goes without a word to them, as if it were killed: another worker ends what it leaves (`proxy.orphans`).
        """
        looks = 0
        while looks < MOST_LOOKS:
            if self._broken.wait(LOOK_S):
                return
            looks = looks + 1 if self._answers["livez"]() else 0
        log.critical("the event loop hangs: ending this worker")
        os._exit(LOST)

    def _serve(self) -> None:
        try:
            while data := self._line.recv(LETTER_BYTES):
                self._heed(msgspec.json.decode(data, type=Question | Command | Adopt))
        except (OSError, msgspec.MsgspecError):
            pass
        self._broken.set()
        self._call(self._lost)
        threading.Event().wait(self._grace_s())
        os._exit(LOST)

    def _call(self, what: Callable[..., object], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: this process ends anyway
            self._loop.call_soon_threadsafe(what, *arguments, context=self._context)

    def _heed(self, message: Question | Command | Adopt) -> None:
        if isinstance(message, Command):
            self._call(self._obey, message.order)
        elif isinstance(message, Adopt):
            self._call(self._adopt, message.orphans)
        else:
            try:
                answer = self._answers[message.ask]()
            except Exception:
                log.exception("a question of the supervisor's cannot be answered", ask=message.ask)  # nor be fatal
            else:
                self._line.send(msgspec.json.encode(Reply(number=message.number, answer=answer)))
