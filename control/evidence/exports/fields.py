"""What of an item a schema of others has no field for, under our own names: so nothing is lost in it. Pure."""

from typing import Any

from control import harmless
from control.evidence.exports import words
from control.evidence.timeline import Item
from proxy.contract.record import Parameter

MESSAGE = 1_000
"""Characters of an event's message."""
MAPPED = frozenset({"seq", "kind", "sql", "text", "sqlstate", "message", "person", "database"})
"""What of an item has a field in the schemas."""
TOLD = frozenset({"at", "offset_s"})
"""What every format says in its own way."""


def rest(item: Item) -> dict[str, Any]:
    """The item's fields that have no other place and have a value."""
    left = {"kind": item["kind"]} | {
        name: value for name, value in item.items() if value is not None and name not in MAPPED and name not in TOLD
    }
    if item.get("parameters"):
        left["parameters"] = [_parameter(one) for one in item["parameters"]]
    return left


def _parameter(value: Parameter) -> dict[str, Any]:
    """With its NULL in so many words, and all else as text: stores refuse a field that has a new type in each event.

    `type` says what the text is of.
    """
    if value.withheld:
        return {"type": value.type, "withheld": True}
    if value.base64 is not None:
        return {"type": value.type, "base64": value.base64}
    exact = value.value is None or isinstance(value.value, str)
    masked = {"masked": True} if value.masked else {}
    return {"type": value.type, "value": value.value if exact else words.parameter(value)} | masked


def message(text: str) -> str:
    """One harmless line for people: what it repeats stands whole and exact elsewhere in the event."""
    return harmless.line(text)[:MESSAGE]
