"""The doors: what clients connect to, TCP ports and unix sockets, each with the way in which it asks for a token.

They are opened once, by the process that serves, or by the supervisor of several, which hands them down. Whoever has
made a unix socket's file removes it. What becomes of a connection is the server's (`proxy.server`).
"""

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from proxy import config, listener
from proxy.config import ProxySettings, UnixSocket
from proxy.listener import SocketFile
from proxy.peer import gid

Asks: TypeAlias = Literal["password", "oauth"]
"""How a token is asked for: an authentication request can name one way only (see `proxy.bearer`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One listening socket."""

    listening: socket.socket
    asks: Asks
    file: SocketFile | None = None
    """Of a unix socket that this process has made."""

    def close(self) -> None:
        """Let nobody in any more."""
        if self.file is not None:
            self.file.remove()
        self.listening.close()


def open_all(settings: ProxySettings) -> list[Door]:
    """Every door of the configuration. Raises OSError, and then none is open."""
    doors: list[Door] = []
    ways: tuple[tuple[Asks, list[str]], ...] = (("password", settings.listen), ("oauth", settings.oauth.listen))
    try:
        for asks, listen in ways:
            for text in listen:
                doors += _open(*config.parse_listen(text), asks, settings.unix_socket)
    except OSError:
        for door in doors:
            door.close()
        raise
    return doors


def _open(host: str, port: int, asks: Asks, unix: UnixSocket) -> list[Door]:
    if host.startswith("/"):
        listening, file = listener.bind_unix(config.unix_path(host, port), mode=int(unix.mode, 8), gid=gid(unix))
        return [Door(listening=listening, asks=asks, file=file)]
    return [Door(listening=listening, asks=asks) for listening in listener.bind(host, port)]


def ports(doors: Iterable[Door]) -> list[int]:
    """The TCP ports among them."""
    return [one.listening.getsockname()[1] for one in doors if one.listening.family != socket.AF_UNIX]


def paths(doors: Iterable[Door]) -> list[str]:
    """The unix sockets among them."""
    return [one.listening.getsockname() for one in doors if one.listening.family == socket.AF_UNIX]
