"""What of an item a schema of others has no field for, under our own names: so nothing is lost in it. Pure."""

from typing import Any

import msgspec

from control import harmless
from control.evidence.exports import words
from control.evidence.exports.context import Context
from control.evidence.timeline import Item
from proxy.contract.record import Parameter

MESSAGE = 1_000
"""Characters of an event's message."""
MAPPED = frozenset({"seq", "kind", "sql", "text", "duration_s", "sqlstate", "message", "person", "database"})
"""What of an item has a field in the schemas."""
TOLD = frozenset({"at", "offset_s"})
"""What every format says in its own way."""


def rest(context: Context, item: Item) -> dict[str, Any]:
    """The item's fields that have no other place and a value, and the session's."""
    left = {
        name: _plain(value)
        for name, value in item.items()
        if name not in MAPPED and name not in TOLD and value is not None
    }
    return {"session": facts(context), "kind": item["kind"]} | left


def facts(context: Context) -> dict[str, Any]:
    """The session's facts, those that are known: each event has them, so that one alone can be judged."""
    session = context.session
    known = {
        "id": session.id,
        "proxy": session.proxy,
        "person": session.person,
        "grant": session.grant,
        "target": session.target,
        "database": session.database,
        "profile": session.profile,
        "said_user": context.said_user,
    } | context.started
    return {name: _plain(value) for name, value in known.items() if value is not None}


def _plain(value: object) -> object:
    if isinstance(value, list) and value and isinstance(value[0], Parameter):
        return [_parameter(one) for one in value]
    return msgspec.to_builtins(value)


def _parameter(value: Parameter) -> dict[str, Any]:
    """With its NULL in so many words, and all else as text: stores refuse a field that has a new type in each event.

    `type` says what the text is of.
    """
    if value.withheld:
        return {"type": value.type, "withheld": True}
    if value.base64 is not None:
        return {"type": value.type, "base64": value.base64}
    exact = value.value is None or isinstance(value.value, str)
    return {"type": value.type, "value": value.value if exact else words.parameter(value)}


def message(text: str) -> str:
    """One harmless line for people: what it repeats stands whole and exact elsewhere in the event."""
    return harmless.line(text)[:MESSAGE]
