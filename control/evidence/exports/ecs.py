"""ECS: each item as a document of the Elastic Common Schema, a line each. Pure.

After https://www.elastic.co/docs/reference/ecs (fields, types, and the values that it allows `event.kind`, `category`,
`type` and `outcome`). It has no fields for SQL; these have the names that OpenTelemetry gives them (`db.*`, "Semantic
conventions for database client calls"). What neither has a field for is below `curfew`, under the timeline's own names,
with SQL NULL as null. The data of a COPY is counted, not given.
"""

from collections.abc import Sequence
from typing import Any, Final

from control.evidence.exports import words
from control.evidence.exports.commands import COPIED, Effect, commands, effects
from control.evidence.exports.context import Context, address
from control.evidence.exports.fields import message, rest
from control.evidence.exports.lines import line
from control.evidence.timeline import Item
from control.times import SECOND

SCHEMA: Final = "8.17.0"
READING: Final = frozenset({Effect.READ, Effect.QUERY})
Document = dict[str, Any]


class Ecs:
    """A session's documents."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._facts, self._same = context.facts(), self._session()

    def begin(self) -> bytes:
        """Nothing: each line stands alone."""
        return b""

    def take(self, item: Item) -> bytes:
        """An item's document."""
        if self._context.take(item):
            self._facts, self._same = self._context.facts(), self._session()
        return line(self._document(item))

    def finish(self) -> bytes:
        """Nothing."""
        return b""

    def _document(self, item: Item) -> Document:
        statement = item["kind"] == "statement"
        named = commands(item) if statement else []
        said = words.result(item) if statement else words.told(item)
        document: Document = {
            "@timestamp": item["at"],
            "message": message(f"{'; '.join(named) or 'statement'}: {said}" if statement else said),
            "ecs": {"version": SCHEMA},
            "event": self._event(item, named),
            "db": self._db(item, named),
            "curfew": {"session": self._facts} | rest(item),
        }
        if item.get("sqlstate"):
            document["error"] = {"code": item["sqlstate"], "message": item["message"] or ""}
        return document | self._same

    def _session(self) -> Document:
        """What is the same in each document."""
        context = self._context
        same: Document = {
            "user": self._user(),
            "source": self._source(),
            "server": self._server(),
            "service": {"name": context.session.target or "unknown", "type": "postgresql"},
            "observer": {
                "name": context.session.proxy,
                "product": "Curfew",
                "type": "proxy",
                "vendor": "Curfew",
                "version": context.version,
            },
            "related": self._related(),
        }
        if tls := context.started.get("tls"):
            same["tls"] = {"established": True, "cipher": tls.cipher, "version": tls.version.removeprefix("TLSv")}
        return same

    def _event(self, item: Item, named: Sequence[str]) -> Document:
        category, kinds = _kinds(item, named)
        event: Document = {
            "kind": "event",
            "category": category,
            "type": kinds,
            "action": _action(item, named),
            "outcome": _outcome(item),
            "dataset": "curfew.sessions",
            "module": "curfew",
            "provider": "curfew",
            "id": self._context.event_id(item),
        }
        if item["seq"] is not None:
            event["sequence"] = item["seq"]
        if item["kind"] == "statement" and item["duration_s"] is not None:
            event["duration"] = round(item["duration_s"] * SECOND)
        if item.get("refusal") or item.get("reason"):
            event["reason"] = item.get("refusal") or item["reason"]
        return event

    def _user(self) -> Document:
        context = self._context
        user: Document = {"name": context.session.person or context.said_user or "unknown"}
        if acting := context.started.get("upstream_user"):
            user["effective"] = {"name": acting}
        return user

    def _source(self) -> Document:
        ip = address(self._context.session.address)
        return {"address": self._context.session.address or "unix socket"} | ({} if ip is None else {"ip": ip})

    def _server(self) -> Document:
        host, port = self._context.server
        found: Document = {"address": host or self._context.session.target or "unknown"}
        if (ip := address(host)) is not None:
            found["ip"] = ip
        return found | ({} if port is None else {"port": port})

    def _related(self) -> Document:
        context = self._context
        people = [context.session.person, context.said_user, context.started.get("upstream_user")]
        places = [address(context.session.address), address(context.started.get("via")), address(context.server[0])]
        return {
            "user": list(dict.fromkeys(one for one in people if one)),
            "ip": list(dict.fromkeys(one for one in places if one)),
        }

    def _db(self, item: Item, named: Sequence[str]) -> Document:
        db: Document = {"system": {"name": "postgresql"}}
        if self._context.session.database:
            db["namespace"] = self._context.session.database
        if item.get("sql") is not None:
            db["query"] = {"text": item["sql"]}
        if named:
            db["operation"] = {"name": "; ".join(named)}
        return db | ({"response": {"status_code": item["sqlstate"]}} if item.get("sqlstate") else {})


def _kinds(item: Item, named: Sequence[str]) -> tuple[list[str], list[str]]:
    """`event.category` and `event.type`: only such as the schema expects together."""
    match item["kind"]:
        case "start":
            return ["database", "session"], ["start"]
        case "end" | "reaped":
            return ["database", "session"], ["end"]
        case "refused":
            return ["database", "network"], ["denied"]
        case "copy":
            return ["database"], [_type(COPIED[item["direction"]]) if item["direction"] in COPIED else "info"]
        case "statement":
            kinds = sorted({_type(effect) for effect in effects(named)})
            kinds += ["error"] if item["sqlstate"] else []
            return ["database"], kinds or ["info"]
        case _:
            return ["database"], ["info"]


def _type(effect: Effect) -> str:
    return "access" if effect in READING else "change"


def _action(item: Item, named: Sequence[str]) -> str:
    """As `select`, `create-table`, `session-end`."""
    if item["kind"] == "statement":
        return "-".join(named[0].lower().split()) if named else "statement"
    kind: str = item["kind"]
    return f"session-{kind}" if kind in ("start", "end") else kind.replace("_", "-")


def _outcome(item: Item) -> str:
    match item["kind"]:
        case "refused":
            return "failure"
        case "copy":
            return "failure" if item["failed"] else "success"
        case "statement" if item["sqlstate"]:
            return "failure"
        case "statement" if item["skipped"] or not item["finished"]:
            return "unknown"
        case "start" | "statement" | "cancel":
            return "success"
        case _:
            return "unknown"
