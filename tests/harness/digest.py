"""Whether the same bytes went through: a tap on each leg of a proxy, and what each heard held against the other.

The logins differ by design, so listening begins behind them: on what the client says behind its last password message,
on what the server says behind its first ReadyForQuery. Two taps find each other's sessions by the backend's pid, which
is the same on both legs (PROTOCOL.md, row 75). Reads no message but those of the login, unless told to leave some out.
"""

import hashlib
import ssl
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.harness.background import in_background
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy
from tests.harness.relay import Behaviour, Flow, Opening, Relay, Send, Side, end_tls
from tests.harness.waiting import eventually_sync
from tests.harness.wire import GSSENC_REQUEST, SSL_REQUEST, TERMINATE

KEPT_BYTES = 1 << 20
"""Of each stream, to show where two differ; a tap may keep less."""
ENCRYPTION = (SSL_REQUEST, GSSENC_REQUEST)
CANCEL = struct.pack("!i", 80_877_102)
HEADER = 5
OURS = b"(grant grt_"
"""What the proxy's own notices and errors about a grant have in them."""


class Stream:
    """One direction of a session: how long it was, what it hashes to, and its beginning."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self.count = 0
        self.kept = b""
        self._kept_bytes = kept_bytes
        self._hash = hashlib.sha256()

    def take(self, data: bytes) -> None:
        """Note a piece."""
        self.count += len(data)
        self._hash.update(data)
        self.kept += data[: self._kept_bytes - len(self.kept)]

    def digest(self, *more: bytes) -> str:
        """SHA-256 of all of it, and of `more` behind it."""
        together = self._hash.copy()
        for data in more:
            together.update(data)
        return together.hexdigest()

    def begins(self, other: "Stream") -> bool:
        """Whether `other` is longer and begins as this one, as far as both are kept."""
        return self.count < other.count and other.kept[: len(self.kept)] == self.kept[: len(other.kept)]

    def differs(self, other: "Stream") -> str:
        """In words, where they do; empty where they are the same."""
        if (self.count, self.digest()) == (other.count, other.digest()):
            return ""
        pairs = enumerate(zip(self.kept, other.kept, strict=False))
        at = next((at for at, (one, two) in pairs if one != two), min(len(self.kept), len(other.kept)))
        window = slice(max(0, at - 20), at + 40)
        return f"{self.count} and {other.count} bytes, at {at}: {self.kept[window]!r} and {other.kept[window]!r}"


class Heard:
    """One connection: who it was, and both its streams."""

    def __init__(self, ours: bytes = b"", kept_bytes: int = KEPT_BYTES) -> None:
        self.pid = 0
        """The backend's; 0 where there was no login."""
        self.client = Stream(kept_bytes)
        """What the client said."""
        self.server = Stream(kept_bytes)
        """What the server said."""
        self.turns: list[tuple[Side, bytes]] = []
        """Both in their order, as far as they are kept."""
        self._kept_bytes = kept_bytes
        self._login = _Login(self)
        self._without = _Without(ours) if ours else None

    def take_client(self, data: bytes) -> None:
        """Note what the client says."""
        self._take("client", self.client, self._login.of_client(data))

    def take_server(self, data: bytes) -> None:
        """Note what the server says."""
        behind = self._login.of_server(data)
        self._take("server", self.server, behind if self._without is None else self._without.feed(behind))

    def _take(self, side: Side, stream: Stream, data: bytes) -> None:
        stream.take(data)
        if self.turns and self.turns[-1][0] == side:
            data = self.turns.pop()[1] + data
        if data and stream.count <= self._kept_bytes:
            self.turns.append((side, data))


class _Login:
    """Takes the login off both streams."""

    def __init__(self, heard: Heard) -> None:
        self._heard = heard
        self._client, self._server = bytearray(), bytearray()
        self._started = self._client_in = self._server_in = False
        self._answers = 0
        """Single bytes that the server owes."""

    def of_client(self, data: bytes) -> bytes:
        """What of it is behind the login."""
        if self._client_in:
            return data
        self._client += data
        while len(self._client) >= HEADER:
            kind = self._client[:1] if self._started else b""
            if self._started and kind != b"p":
                self._client_in = True
                return bytes(self._client)
            size = len(kind) + int.from_bytes(self._client[len(kind) : len(kind) + 4])
            if len(self._client) < size:
                break
            packet = bytes(self._client[:size])
            del self._client[:size]
            if packet in ENCRYPTION:
                self._answers += 1
            elif packet[4:8] != CANCEL:
                self._started = True
        return b""

    def of_server(self, data: bytes) -> bytes:
        """What of it is behind the login."""
        if self._server_in:
            return data
        self._server += data
        while self._answers and self._server:
            self._answers -= 1
            del self._server[:1]
        while len(self._server) >= HEADER:
            size = 1 + int.from_bytes(self._server[1:HEADER])
            if len(self._server) < size:
                break
            message = bytes(self._server[:size])
            del self._server[:size]
            if message[:1] == b"K":
                self._heard.pid = int.from_bytes(message[HEADER : HEADER + 4])
            elif message[:1] == b"Z":
                self._server_in = True
                return bytes(self._server)
        return b""


class Tap:
    """Listens on one leg. `ours`: leave out notices and errors that have this in them."""

    def __init__(self, *, ours: bytes = b"", kept_bytes: int = KEPT_BYTES) -> None:
        self._ours = ours
        self._kept_bytes = kept_bytes
        self._heard: dict[Flow, Heard] = {}

    def relay(self, port: int, *, between: Sequence[Behaviour] = (), opening: Opening | None = None) -> Relay:
        """A relay with this tap on it. `between` are more behaviours, of both directions, behind the tap."""
        return Relay(port, client=[self._client, *between], server=[self._server, *between], opening=opening)

    @property
    def sessions(self) -> list[Heard]:
        """Those that were logged in, in the order of their connecting."""
        return [heard for heard in self._heard.values() if heard.pid]

    def of(self, pid: int) -> Heard:
        """The last session of this backend's."""
        return next(heard for heard in reversed(self.sessions) if heard.pid == pid)

    def forget(self, heard: Heard) -> None:
        """Drop a session."""
        self._heard = {flow: one for flow, one in self._heard.items() if one is not heard}

    def pid_of(self, client: Flow) -> int:
        """Whose connection it is; 0 where that is not known."""
        return self._heard[client].pid if client in self._heard else 0

    async def _client(self, flow: Flow, send: Send, data: bytes) -> None:
        self._of(flow).take_client(data)
        await send(data)

    async def _server(self, flow: Flow, send: Send, data: bytes) -> None:
        self._of(flow).take_server(data)
        await send(data)

    def _of(self, flow: Flow) -> Heard:
        return self._heard.setdefault(flow.link.client, Heard(self._ours, self._kept_bytes))


class _Without:
    """Takes whole messages out of what a server says. Holds back what is not whole."""

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._held = bytearray()

    def feed(self, data: bytes) -> bytes:
        """What is left of it."""
        self._held += data
        left, at = bytearray(), 0
        while len(self._held) - at >= HEADER:
            end = at + 1 + int.from_bytes(self._held[at + 1 : at + HEADER])
            if end > len(self._held):
                break
            message = self._held[at:end]
            if message[0] not in b"NE" or self._mark not in message:
                left += message
            at = end
        del self._held[:at]
        return bytes(left)


def differences(client: Tap, upstream: Tap) -> list[str]:
    """Where what went into the proxy is not what came out of it, session by session; none is as it should be.

    The proxy says Terminate for a client that leaves without. Every session must have ended in good order.
    """
    there: dict[int, list[Heard]] = {}
    for heard in upstream.sessions:
        there.setdefault(heard.pid, []).append(heard)
    found = []
    for here in client.sessions:
        if not there.get(here.pid):
            found.append(f"session of backend {here.pid}: not seen upstream")
            continue
        other = there[here.pid].pop(0)
        if here.client.digest(TERMINATE) != other.client.digest():
            found.append(f"client of backend {here.pid}: {here.client.differs(other.client)}")
        found.append(f"backend {here.pid}: {here.server.differs(other.server)}")
    return [one for one in found if not one.endswith(": ")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tapped:
    """A proxy with a tap on each leg."""

    proxy: Proxy
    port: int
    """Where clients connect."""
    relays: tuple[Relay, Relay]
    client: Tap = field(default_factory=Tap)
    upstream: Tap = field(default_factory=Tap)

    def environment(self, **changed: str) -> dict[str, str]:
        """For psql and its kin, in clear."""
        return self.proxy.psql_env(**{"PGPORT": str(self.port), "PGSSLMODE": "disable", **changed})

    def differences(self) -> list[str]:
        """What `differences` says, once everything has ended; also where nothing at all was heard."""
        self.wait_for_ends()
        return differences(self.client, self.upstream) if self.client.sessions else ["nothing was said"]

    def wait_for_ends(self) -> None:
        """Wait until the clients have gone, and their sessions have ended."""
        eventually_sync(lambda: not self.relays[0].open, what="the clients' end")
        eventually_sync(lambda: not self._live(), what="the sessions' end")

    def _live(self) -> list[object]:
        """The upstream connections of the clients' sessions."""
        pids = {heard.pid for heard in self.client.sessions}
        return [link for link in self.relays[1].open if self.upstream.pid_of(link.client) in pids]


@contextmanager
def tapped(
    cluster: Cluster,
    ca: Authority,
    folder: Path,
    *,
    between: Sequence[Behaviour] = (),
    encrypted: bool = False,
    kept_bytes: int = KEPT_BYTES,
    target: Mapping[str, Any] = MappingProxyType({}),
    options: Mapping[str, Any] = MappingProxyType({"plaintext": "loopback"}),
    **changed: Any,  # noqa: ANN401 any other field of Proxy
) -> Iterator[Tapped]:
    """Such a proxy in front of `cluster`: over TLS on both legs, else in clear, which the cluster must allow.

    `between` is done to the bytes in both directions of both legs.
    """
    upstream, client = Tap(kept_bytes=kept_bytes), Tap(ours=OURS, kept_bytes=kept_bytes)
    way = {"host": "127.0.0.1", "sslmode": "disable"}
    opening: Opening | None = None
    if encrypted:
        opening = end_tls(_server_context(ca, folder), ca.client_context(), "localhost")
        way = {"host": "localhost", "channel_binding": "disable"}
    with in_background(upstream.relay(cluster.port, between=between, opening=opening)) as there:
        made = Proxy(
            cluster=cluster,
            ca=ca,
            folder=folder,
            target={**target, **way, "port": there.port},
            options=options,
            **changed,
        )
        with made as proxy, in_background(client.relay(proxy.port, between=between, opening=opening)) as here:
            yield Tapped(proxy=proxy, port=here.port, relays=(here, there), client=client, upstream=upstream)


def _server_context(ca: Authority, folder: Path) -> ssl.SSLContext:
    folder.mkdir(parents=True, exist_ok=True)
    return ca.server_context(folder=folder, stem="tap")
