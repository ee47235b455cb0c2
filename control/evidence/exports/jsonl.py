"""JSON Lines: the timeline as it is, an item a line, each with its session's id. Nothing is left out. Pure."""

from typing import Any

import msgspec

from control.evidence.exports.context import Context
from control.evidence.timeline import Item


class JsonLines:
    """The session's summary on a line of kind `session`, then its items."""

    def __init__(self, context: Context, summary: dict[str, Any]) -> None:
        self._id = context.session.id
        self._summary = summary
        self._encode = msgspec.json.Encoder().encode

    def begin(self) -> bytes:
        """The summary."""
        return self._encode({"session": self._id, "kind": "session"} | self._summary) + b"\n"

    def take(self, item: Item) -> bytes:
        """An item."""
        return self._encode({"session": self._id} | item) + b"\n"

    def finish(self) -> bytes:
        """Nothing."""
        return b""
