"""The backstop: settings by which PostgreSQL itself ends a session whose proxy has vanished, host and all.

Owns what is asked for at a login (`targets.NAME.backstop`), and that a server which does not take it is asked no more.
It is never how a session is ended: a person may set these to 0, and what runs may commit before they take effect.
https://www.postgresql.org/docs/current/runtime-config-connection.html#RUNTIME-CONFIG-TCP-SETTINGS
"""

from collections.abc import Sequence

import structlog

from proxy.dial import UpstreamError

SETTINGS = (
    (b"client_connection_check_interval", b"10s"),
    (b"tcp_keepalives_idle", b"60"),
    (b"tcp_keepalives_interval", b"10"),
    (b"tcp_keepalives_count", b"3"),
)
"""The end of a running statement's connection is noticed within 10 s, a silent host within 90 s (as on our side)."""

log = structlog.get_logger(__name__)


class Backstop:
    """What one target is asked for."""

    def __init__(self, target: str, *, wanted: bool) -> None:
        self._target = target
        self._wanted = wanted

    def settings(self, theirs: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """The startup parameters to add to the client's: what it has set itself, in `options` too, is its own."""
        if not self._wanted:
            return []
        named = {name.lower() for name, _ in theirs}
        options = b" ".join(value for name, value in theirs if name == b"options").lower().replace(b"-", b"_")
        return [(name, value) for name, value in SETTINGS if name not in named and name not in options]

    def is_refused(self, error: UpstreamError) -> bool:
        """Whether a login failed because of these settings. They are not asked for again, then: try without."""
        if error.answer is None or not any(name in error.answer for name, _ in SETTINGS) or not self._wanted:
            return False
        self._wanted = False
        log.warning("the server does not take the backstop's settings", target=self._target, error=str(error))
        return True
