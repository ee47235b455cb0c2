"""JSON Lines: the timeline as it is, an item a line, each with its session's id. Pure.

The data of a COPY is counted, not given: the records have it.
"""

from typing import Any

from control.evidence.exports.context import Context
from control.evidence.exports.lines import line
from control.evidence.timeline import Item


class JsonLines:
    """The session's summary on a line of kind `session`, then its items."""

    def __init__(self, context: Context, summary: dict[str, Any]) -> None:
        self._id = context.session.id
        self._summary = summary

    def begin(self) -> bytes:
        """The summary."""
        return line({"session": self._id, "kind": "session"} | self._summary)

    def take(self, item: Item) -> bytes:
        """An item."""
        return line({"session": self._id} | item)

    def finish(self) -> bytes:
        """Nothing."""
        return b""
