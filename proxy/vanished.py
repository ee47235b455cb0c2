"""Noticing that a session's peer has vanished while data was on its way to it.

TCP's keepalive finds a silent peer out, but not while something is unacknowledged: then the kernel sends it again and
again, for some 15 minutes (tcp_retries2, tcp(7)). TCP_USER_TIMEOUT would be shorter, and would also end a peer that
lives and only does not read (a person in a pager): Linux counts zero-window probes even where each is answered. So this
looks at what the kernel itself knows of the connection (TCP_INFO): what was sent again, or asked again, is unanswered
still, and nothing at all has been acknowledged for as long as keepalive would wait.

It cuts that socket and no more: the session ends as with any client, or server, that is lost.
"""

import asyncio
import socket
import struct
from collections.abc import Sequence

from proxy.leg import Leg

EVERY_S = 15.0
SILENT_S = 90.0
"""As keepalive's: 60 s, and three probes 10 s apart."""
UNANSWERED = 2
"""So many sendings of the same, and so many probes, that nobody has answered."""
_TCP_INFO = struct.Struct("=2x B B 52x I")
"""Of struct tcp_info (linux/tcp.h, which only ever grows at its end): tcpi_retransmits and tcpi_probes, both without an
answer since, and tcpi_last_ack_recv (milliseconds)."""


class VanishedWatch:
    """One session's. It looks from the start on; `close` it."""

    def __init__(self, legs: Sequence[Leg]) -> None:
        self._legs = legs
        self._next = asyncio.get_running_loop().call_later(EVERY_S, self._look)

    def close(self) -> None:
        """Look no more."""
        self._next.cancel()

    def _look(self) -> None:
        for leg in self._legs:
            if has_vanished(leg.transport.get_extra_info("socket")):
                leg.transport.abort()
        self._next = asyncio.get_running_loop().call_later(EVERY_S, self._look)


def has_vanished(connected: socket.socket | None) -> bool:
    """Whether the kernel has long been sending to nobody there."""
    if connected is None or connected.family == socket.AF_UNIX:
        return False
    try:
        known = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except OSError:
        return False  # Closed already; whoever did that sees to the rest.
    if len(known) < _TCP_INFO.size:
        return False
    return is_unanswered(known)


def is_unanswered(known: bytes) -> bool:
    """What a struct tcp_info says of that."""
    retransmits, probes, silent_ms = _TCP_INFO.unpack_from(known)
    return bool(max(retransmits, probes) >= UNANSWERED and silent_ms >= SILENT_S * 1_000)
