"""What the kernel says of a connection, and which of that means that nobody is there."""

import socket
import struct

import pytest

from proxy.leg import Leg
from proxy.vanished import VanishedWatch, has_vanished, is_unanswered
from tests.harness.waiting import eventually, eventually_sync, never

LAST_ACK_AT = 56
"""tcpi_last_ack_recv: linux/tcp.h, struct tcp_info."""


def known(*, retransmits: int = 0, probes: int = 0, silent_ms: int = 0) -> bytes:
    """A struct tcp_info whose every other byte is not 0."""
    info = bytearray(b"\xff" * 240)
    info[2:4] = bytes((retransmits, probes))
    struct.pack_into("=I", info, LAST_ACK_AT, silent_ms)
    return bytes(info)


@pytest.mark.parametrize(
    ("said", "gone"),
    [
        (known(silent_ms=4_000_000_000), False),  # an idle peer: keepalive's matter
        (known(retransmits=1, silent_ms=90_000), False),
        (known(retransmits=2, silent_ms=89_999), False),
        (known(retransmits=2, silent_ms=90_000), True),
        (known(probes=1, silent_ms=120_000), False),  # the kernel waits so long between probes
        (known(probes=2, silent_ms=90_000), True),
    ],
)
def test_unanswered(said: bytes, *, gone: bool) -> None:
    """What was sent again has found no answer, and nothing has for long."""
    assert is_unanswered(said) is gone


def test_a_peer_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers the kernel's probes, and lives; one whose socket is closed, or none of TCP's, says nothing of that."""
    monkeypatch.setattr("proxy.vanished.SILENT_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sender:
        reader, _ = server.accept()
        with reader:
            sender.setblocking(False)  # noqa: FBT003 the socket module takes it by position
            eventually_sync(lambda: _is_full(sender))
            assert not has_vanished(sender)
    assert not has_vanished(sender)
    assert not has_vanished(None)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not has_vanished(ours)


class Cut:
    """A leg's transport that notes how often it was cut."""

    def __init__(self) -> None:
        self.cuts = 0

    def get_extra_info(self, _: str) -> object:
        """Its socket: itself will do."""
        return self

    def abort(self) -> None:
        """Cut."""
        self.cuts += 1


async def test_whoever_has_vanished_is_cut_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Again and again it looks, until it is closed."""
    there, gone = Leg(), Leg()
    there.transport, gone.transport = Cut(), Cut()  # type: ignore[assignment] # what is asked of them here
    monkeypatch.setattr("proxy.vanished.EVERY_S", 0.001)
    monkeypatch.setattr("proxy.vanished.has_vanished", lambda connected: connected is gone.transport)
    watch = VanishedWatch((there, gone))
    await eventually(lambda: gone.transport.cuts > 1)  # type: ignore[attr-defined]
    watch.close()
    cuts = gone.transport.cuts  # type: ignore[attr-defined]
    await never(lambda: gone.transport.cuts > cuts, during=0.05)  # type: ignore[attr-defined]
    assert there.transport.cuts == 0  # type: ignore[attr-defined]


def _is_full(sender: socket.socket) -> bool:
    try:
        sender.send(bytes(65_536))
    except BlockingIOError:
        return True
    return False
