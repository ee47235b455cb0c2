"""The closed segments of the journal: how long they are, and which may be deleted for those that follow.

Owns their sizes and their deletion. Never touches the segment that is written to (`proxy.journal`), and never deletes
one before its time (`proxy.retention`).
"""

from pathlib import Path

import structlog

from proxy import segments
from proxy.retention import Retention

log = structlog.get_logger(__name__)


class Archive:
    """One journal's."""

    def __init__(self, directory: Path, retention: Retention) -> None:
        self._directory = directory
        self._retention = retention
        self._sizes: dict[int, int] = {}

    @property
    def first(self) -> int | None:
        """The oldest one; None where there is none."""
        return min(self._sizes, default=None)

    @property
    def total_bytes(self) -> int:
        """How long all of them are together."""
        return sum(self._sizes.values())

    def bytes_from(self, number: int) -> int:
        """How long segment `number` and those behind it are."""
        return sum(size for other, size in self._sizes.items() if other >= number)

    def retained_bytes(self, before: int) -> int:
        """How much of those before segment `before` was not kept for long enough yet."""
        held = [number for number in self._sizes if number < before]
        return sum(self._sizes[number] for number in held if not self._retention.is_over(number))

    def found(self, number: int) -> None:
        """A start has found this one. Raises OSError."""
        about = segments.path_of(self._directory, number).stat()
        self._sizes[number] = about.st_size
        self._retention.found(number, about.st_mtime)

    def closed(self, number: int, size: int) -> None:
        """The newest one, just now."""
        self._sizes[number] = size
        self._retention.closed(number)

    def look_again(self) -> None:
        """Those that an operator has moved away count no more. Raises OSError."""
        there = set(segments.numbers(self._directory))
        self._sizes = {number: size for number, size in self._sizes.items() if number in there}

    def make_way(self, excess: int, before: int) -> bool:
        """Delete the oldest ones before segment `before` that were kept for long enough, as many as needed.

        Returns whether `excess` bytes are gone.
        """
        for number in [number for number in self._sizes if number < before]:
            if excess <= 0 or not self._retention.is_over(number):
                break
            try:
                segments.path_of(self._directory, number).unlink(missing_ok=True)
            except OSError as error:
                log.warning("a segment cannot be deleted", directory=str(self._directory), error=str(error))
                break
            excess -= self._sizes.pop(number)
            self._retention.deleted(number)
        return excess <= 0
