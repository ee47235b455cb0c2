"""Welcoming connections: a Session of each accepted socket, as long as the process has room for it.

Owns the tasks of all sessions, and the lobby. It never looks into a session.
"""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace

from proxy import listener
from proxy.bearer import Asking, OAuthBearer, Password
from proxy.lobby import Lobby
from proxy.peer import Origins, Peer
from proxy.session import Session
from proxy.shared import Shared
from proxy.tasks import spawn


class Reception:
    """One process's."""

    def __init__(self, shared: Shared, origins: Origins, show_load: Callable[[int], None]) -> None:
        """`show_load` is told how many connections there are, whenever that changes."""
        self.lobby = Lobby(shared.metrics)
        self.origins = origins
        """Reloading replaces it."""
        self.sessions: set[asyncio.Task[None]] = set()
        self._shared = shared
        self._show_load = show_load

    def welcome(self, accepted: socket.socket, address: str) -> None:
        """Begin a session whose token is asked for as a password."""
        self._begin(accepted, self.origins.of(accepted, address), Password())

    def welcome_by_oauth(self, accepted: socket.socket, address: str) -> None:
        """Begin one whose token is asked for by OAUTHBEARER, never in clear text (RFC 7628, section 4)."""
        oauth, authority = self._shared.settings.oauth, self._shared.authority()
        issuer = oauth.issuer or (authority.issuer if authority is not None else "")
        peer = replace(self.origins.of(accepted, address), plaintext_allowed=False)
        self._begin(accepted, peer, OAuthBearer(issuer=issuer, scope=oauth.scope))

    def _begin(self, accepted: socket.socket, peer: Peer, asking: Asking) -> None:
        shared, proxy = self._shared, self._shared.settings
        shared.metrics.connections += 1
        if len(self.sessions) >= proxy.max_connections:
            shared.metrics.connections_refused["connections"] += 1
            accepted.close()
            return
        session = Session(
            shared,
            accepted,
            peer,
            asking=asking,
            on_identified=lambda known: self.lobby.identify(
                task, str(known), limit_per_address=shared.settings.max_unauthenticated_per_address
            ),
            on_authenticated=lambda: self.lobby.leave(task),
        )
        task = spawn(f"session {session.id}", session.run())
        self.sessions.add(task)
        task.add_done_callback(self._gone)
        self._show_load(len(self.sessions))
        keepers = sum(len(link.keepers) for link in shared.targets.values())
        room = listener.descriptors_for_guests(sessions=len(shared.registry), targets=keepers)
        self.lobby.enter(
            task,
            None if peer.header is not None else str(peer),
            limit=min(proxy.max_unauthenticated, room),
            limit_per_address=proxy.max_unauthenticated_per_address,
        )

    def _gone(self, task: asyncio.Task[None]) -> None:
        self.sessions.discard(task)
        self._show_load(len(self.sessions))

    def empty_the_lobby(self) -> None:
        """Drop whoever has not shown a token yet."""
        while self.lobby.drop_oldest():
            pass

    async def wait(self, seconds: float) -> None:
        """Until the sessions there are have ended, but no longer than that."""
        if self.sessions:
            await asyncio.wait(list(self.sessions), timeout=seconds)
