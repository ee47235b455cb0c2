"""A relay between two legs whose transports only note what they are given."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy.contract.record import Chain, decode
from proxy.contract.settings import CopyDataShown, Parameters
from proxy.journal import JournalError
from proxy.leg import Leg
from proxy.recorder import Recorder
from proxy.relay import Relay
from proxy.wire.tracker import Tracker
from tests.unit.proxy.journals import open_journal, stored

LIMIT = 100_000


class Transport:
    """Notes what is written to it. `on_write` sees each piece first."""

    def __init__(self, *, encrypted: bool = False) -> None:
        self.written = b""
        self.reading = True
        self.encrypted = encrypted
        self.on_write: Callable[[bytes], None] = lambda _: None

    def write(self, data: bytes) -> None:
        """Take a piece."""
        self.on_write(data)
        self.written += data

    def is_closing(self) -> bool:
        """As asyncio's."""
        return False

    def pause_reading(self) -> None:
        """As asyncio's."""
        self.reading = False

    def resume_reading(self) -> None:
        """As asyncio's."""
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """As asyncio's."""

    def get_extra_info(self, name: str) -> object:
        """TLS, or not."""
        return object() if self.encrypted and name == "ssl_object" else None


class Stand:
    """A relay that runs, its two transports and its journal."""

    def __init__(
        self,
        folder: Path,
        *,
        encrypted: bool = False,
        limit_bytes: int = 1 << 24,
        policy: Parameters = Parameters.FULL,
        early: tuple[bytes, bytes] = (b"", b""),
        durable: bool = False,
        copy_data: CopyDataShown = "none",
    ) -> None:
        """`early`: what the client, and PostgreSQL, have said before the relay begins."""
        self.folder = folder
        self.journal = open_journal(folder, limit_bytes=limit_bytes)
        self.client_side, self.server_side = Transport(encrypted=encrypted), Transport()
        self.client, self.server = Leg(early[0]), Leg(early[1])
        self.client.connection_made(cast("asyncio.BaseTransport", self.client_side))
        self.server.connection_made(cast("asyncio.BaseTransport", self.server_side))
        self.recorder = Recorder(self.journal, Ed25519PrivateKey.generate(), Chain("ses_1"))
        tracker = Tracker(policy, copy_data)
        self.relay = Relay(self.client, self.server, tracker, self.recorder, limit=LIMIT, durable=durable)
        self.relay.start()

    @property
    def upstream(self) -> bytes:
        """What PostgreSQL was given."""
        return self.server_side.written

    @property
    def told(self) -> bytes:
        """What the client was given."""
        return self.client_side.written

    def cause(self) -> Any:  # noqa: ANN401 a Cause
        """Why the relay ended, None where it has not."""
        return self.relay.ended.result() if self.relay.ended.done() else None

    def records(self) -> list[Any]:
        """What is in the journal by now, written or not."""
        self.journal.flush()
        return [decode(line) for line in stored(self.folder)]

    def close(self) -> None:
        """End what runs."""
        with contextlib.suppress(JournalError):  # A full journal says so at its end, too.
            self.journal.close()


MakeStand: TypeAlias = Callable[..., Stand]
"""Makes as many as a test wants."""
