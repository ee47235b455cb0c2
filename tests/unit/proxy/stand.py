"""What the relay is put between where nothing is to be sent: transports that only note what they are given."""

from collections.abc import Callable


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
