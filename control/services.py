"""What the operations work with, put together once at start."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from control.config import Configuration, ControlSettings, log_origin
from control.domain.reaping import Vigil
from control.keys import KeyRing, Signer
from control.log_key import LogKey
from control.metrics import Metrics, create
from control.store.engine import Store, open_store
from proxy.contract.proof import PROOF_S
from proxy.contract.settings import Target

REPLAYS = 20_000
"""Proofs remembered for each proxy. It makes a few in a second, and each is remembered for two minutes."""

FOLLOWERS = 100
"""Streams of sessions that are followed at once: each takes a connection, and reads the books whenever one changes."""
FOLLOWED_AT_ONCE = 10
"""Of them, one person's."""


class ReplayGuard:
    """The proofs seen lately: one that comes again is a replay (RFC 9449 section 11.1). Bounded by time and number."""

    def __init__(self) -> None:
        self._seen: dict[str, set[str]] = {}
        self._order: dict[str, deque[tuple[float, str]]] = {}

    def admit(self, proxy: str, jti: str, now: float) -> bool:
        """Whether the proof is new. A proxy that makes too many is refused: forgetting one would let it be replayed."""
        seen, order = self._seen.setdefault(proxy, set()), self._order.setdefault(proxy, deque())
        # A proof is good from PROOF_S before its time to PROOF_S after it, as seen from here.
        while order and order[0][0] <= now - 2 * PROOF_S:
            seen.discard(order.popleft()[1])
        if jti in seen or len(seen) >= REPLAYS:
            return False
        seen.add(jti)
        order.append((now, jti))
        return True


class Presence:
    """Which proxies follow the directives right now, and when each was last heard of. In memory: it changes always."""

    def __init__(self) -> None:
        self._streams: dict[str, int] = {}
        self._seen: dict[str, int] = {}
        self._lately: dict[str, int] = {}
        self._telling: set[str] = set()

    def seen(self, proxy: str, now: int) -> None:
        """The proxy was heard of."""
        self._seen[proxy] = self._lately[proxy] = now

    def heard_lately(self) -> dict[str, int]:
        """Who was heard since this was last asked, and when: for the books, which others read."""
        lately, self._lately = self._lately, {}
        return lately

    def tells(self, proxy: str) -> None:
        """The proxy says by itself that it is there, so from here on an open stream is no sign of it any more.

        The stream of a machine that is gone stays open until TCP gives up, a quarter of an hour later.
        """
        self._telling.add(proxy)

    def told(self, proxy: str, now: int) -> None:
        """Something was sent down an open stream: all that is heard of a proxy older than `tells`."""
        if proxy not in self._telling:
            self.seen(proxy, now)

    def opened(self, proxy: str) -> None:
        """A stream was opened."""
        self._streams[proxy] = self._streams.get(proxy, 0) + 1
        self._telling.discard(proxy)  # it may have been replaced by an older one

    def closed(self, proxy: str) -> None:
        """A stream has ended."""
        self._streams[proxy] -= 1

    def connected(self, proxy: str) -> bool:
        """Whether a stream is open."""
        return self._streams.get(proxy, 0) > 0

    def last_seen(self, proxy: str) -> int:
        """When the proxy was last heard of by this process, 0 for never."""
        return self._seen.get(proxy, 0)


class Followers:
    """Who follows sessions right now. In memory: a stream is a connection to this very process."""

    def __init__(self) -> None:
        self._streams: Counter[str] = Counter()

    def room(self, person: str) -> bool:
        """Whether there is room for one more stream of this person."""
        return self._streams[person] < FOLLOWED_AT_ONCE and self._streams.total() < FOLLOWERS

    @contextmanager
    def one_more(self, person: str) -> Iterator[None]:
        """A stream, while it lasts."""
        self._streams[person] += 1
        try:
            yield
        finally:
            self._streams[person] -= 1
            if not self._streams[person]:
                del self._streams[person]


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The parts of one control service."""

    settings: ControlSettings
    targets: dict[str, Target]
    """What access can be asked for. A reload changes it in place."""
    store: Store
    ring: KeyRing
    signer: Signer
    log_key: LogKey
    clock: Callable[[], int]
    """Nanoseconds since the epoch."""
    metrics: Metrics = field(default_factory=create)
    replays: ReplayGuard = field(default_factory=ReplayGuard)
    presence: Presence = field(default_factory=Presence)
    followers: Followers = field(default_factory=Followers)
    large: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a body that takes much memory is in it."""
    reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    """Held while records are in memory as such: one batch is made ready while another is taken in."""
    taking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while records are taken in: one batch at a time queues for the books, so that a revocation waits for one."""
    signing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a head of the log is signed."""
    proving: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a whole session's proof is made: that of a long one takes seconds."""
    searching: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    """Held while somebody searches: it is work for seconds, and there are more urgent things."""
    watch: Callable[[], float] = time.monotonic
    """Seconds, by a clock that nobody sets."""
    vigil: Vigil = field(default_factory=Vigil)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the service is to stop: what has no end of its own ends then."""

    def stop(self) -> None:
        """Have streams and waiting requests end."""
        self.stopping.set()
        self.store.signals.wake_everybody()


def assemble(
    configuration: Configuration, clock: Callable[[], int], watch: Callable[[], float] = time.monotonic
) -> Services:
    """The services for a configuration. The database exists and is up to date (see `store.migrate`)."""
    settings = configuration.control
    ring = KeyRing(settings.keys)
    return Services(
        settings=settings,
        targets=dict(configuration.targets),
        store=open_store(settings.database),
        ring=ring,
        signer=Signer(ring, issuer=settings.issuer, audience=settings.audience),
        log_key=LogKey(settings.keys, log_origin(settings)),
        clock=clock,
        watch=watch,
    )
