"""OCSF: each item as an event of the class Datastore Activity (6005), a line each. Pure.

After the Open Cybersecurity Schema Framework, https://schema.ocsf.io/1.5.0/classes/datastore_activity: its names,
types, numbers and required attributes. What it has no attribute for is in `unmapped`, under the timeline's own names,
with SQL NULL as null. The data of a COPY is counted, not given.

An event's activity is that of its commands (`commands`); of several in one simple query, the one that changes most.
What has no activity of its own there (BEGIN, SET, the end of a session) is `Other`, with its command as the name.
"""

from collections.abc import Sequence
from typing import Any, Final

from control.evidence.exports import words
from control.evidence.exports.commands import COPIED, Effect, commands, effects
from control.evidence.exports.context import Context, address, milliseconds
from control.evidence.exports.fields import message, rest
from control.evidence.exports.lines import line
from control.evidence.timeline import Item

SCHEMA: Final = "1.5.0"
CATEGORY: Final = (6, "Application Activity")
CLASS: Final = (6005, "Datastore Activity")
UNKNOWN, READ, UPDATE, CONNECT, QUERY, WRITE, CREATE, DELETE, OTHER = 0, 1, 2, 3, 4, 5, 6, 7, 99
NAMES: Final = {
    UNKNOWN: "Unknown",
    READ: "Read",
    UPDATE: "Update",
    CONNECT: "Connect",
    QUERY: "Query",
    WRITE: "Write",
    CREATE: "Create",
    DELETE: "Delete",
}
ACTIVITIES: Final = {
    Effect.DELETE: DELETE,
    Effect.UPDATE: UPDATE,
    Effect.WRITE: WRITE,
    Effect.CREATE: CREATE,
    Effect.QUERY: QUERY,
    Effect.READ: READ,
}
"""What changes most first."""
INFORMATIONAL, LOW = (1, "Informational"), (2, "Low")
SUCCESS, FAILURE, NOT_KNOWN = (1, "Success"), (2, "Failure"), (0, "Unknown")
Event = dict[str, Any]


class Ocsf:
    """A session's events."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._facts, self._same = context.facts(), self._session()

    def begin(self) -> bytes:
        """Nothing: each line stands alone."""
        return b""

    def take(self, item: Item) -> bytes:
        """An item's event."""
        if self._context.take(item):
            self._facts, self._same = self._context.facts(), self._session()
        return line(self._event(item))

    def finish(self) -> bytes:
        """Nothing."""
        return b""

    def _event(self, item: Item) -> Event:
        statement = item["kind"] == "statement"
        activity, name = _activity(item)
        status = _status(item)
        severity = LOW if status is FAILURE else INFORMATIONAL
        time = self._context.time(item["at"])
        said = words.result(item) if statement else words.told(item)
        event: Event = {
            "activity_id": activity,
            "activity_name": name,
            "message": message(f"{name}: {said}" if statement else said),
            "metadata": self._metadata(item),
            "severity": severity[1],
            "severity_id": severity[0],
            "status": status[1],
            "status_id": status[0],
            "time": time,
            "type_name": f"{CLASS[1]}: {NAMES.get(activity, 'Other')}",
            "type_uid": CLASS[0] * 100 + activity,
            "unmapped": {"session": self._facts} | rest(item),
        }
        if item.get("sqlstate"):
            event |= {"status_code": item["sqlstate"], "status_detail": item["message"] or ""}
        if item.get("sql") is not None:
            event["query_info"] = self._query(item, time)
        if statement and (took := milliseconds(item["duration_s"])) is not None:
            event |= {"duration": took, "start_time": time, "end_time": time + took}
        return event | self._same

    def _session(self) -> Event:
        """What is the same in each event."""
        return {
            "actor": self._actor(),
            "category_name": CATEGORY[1],
            "category_uid": CATEGORY[0],
            "class_name": CLASS[1],
            "class_uid": CLASS[0],
            "database": self._database(),
            "dst_endpoint": self._destination(),
            "src_endpoint": self._source(),
            "type": "Database",
            "type_id": 1,
        }

    def _metadata(self, item: Item) -> Event:
        session = self._context.session.id
        metadata: Event = {
            "correlation_uid": session,
            "original_time": item["at"],
            "product": {"name": "Curfew", "vendor_name": "Curfew", "version": self._context.version},
            "profiles": [],
            "uid": self._context.event_id(item),
            "version": SCHEMA,
        }
        return metadata | ({} if item["seq"] is None else {"sequence": item["seq"]})

    def _actor(self) -> Event:
        context = self._context
        session = context.session
        name = session.person or context.said_user or "unknown"
        user: Event = {"name": name, "type": "User", "type_id": 1}
        if session.person is not None:
            user["uid"] = session.person
        its: Event = {"uid": session.id, "created_time": session.started_at // 1_000_000, "is_remote": True}
        if session.expires_at is not None:
            its["expiration_time"] = session.expires_at // 1_000_000
        if session.grant is not None:
            its["credential_uid"] = session.grant
        actor: Event = {"user": user, "session": its}
        return actor | ({"app_name": session.application_name} if session.application_name else {})

    def _source(self) -> Event:
        context = self._context
        source: Event = {"name": context.session.address or "unix socket"}
        if (ip := address(context.session.address)) is not None:
            source["ip"] = ip
        if (via := address(context.started.get("via"))) is not None:
            source["intermediate_ips"] = [via]
        return source

    def _destination(self) -> Event:
        host, port = self._context.server
        found: Event = {"name": self._context.session.target or "unknown", "svc_name": "postgresql"}
        if host is not None:
            found["ip" if address(host) else "hostname"] = address(host) or host
        return found | ({} if port is None else {"port": port})

    def _database(self) -> Event:
        session = self._context.session
        named = {"name": session.database} if session.database else {}
        return named | {"uid": self._context.place, "type": "Relational", "type_id": 1}

    def _query(self, item: Item, time: int) -> Event:
        """The SQL, whole. It must have a `uid` or a `name`: what is no statement has its event's."""
        number = item.get("statement")
        uid = self._context.event_id(item) if number is None else str(number)
        query: Event = {"query_string": item["sql"], "query_time": time, "uid": uid}
        if item.get("bytes_out") is not None:
            query["bytes"] = item["bytes_out"]
        return query | ({"name": item["name"]} if item.get("name") else {})


def _activity(item: Item) -> tuple[int, str]:
    """Its number and its name."""
    match item["kind"]:
        case "start" | "refused":
            return CONNECT, NAMES[CONNECT]
        case "copy":
            activity = ACTIVITIES[COPIED[item["direction"]]] if item["direction"] in COPIED else OTHER
            return activity, NAMES.get(activity, "Copy")
        case "statement":
            return _of(commands(item))
        case kind:
            return OTHER, kind.replace("_", " ").capitalize()


def _of(named: Sequence[str]) -> tuple[int, str]:
    if not named:
        return UNKNOWN, NAMES[UNKNOWN]
    found = effects(named)
    activity = next((number for effect, number in ACTIVITIES.items() if effect in found), OTHER)
    return activity, NAMES.get(activity, named[0])


def _status(item: Item) -> tuple[int, str]:
    """How it went."""
    kind = item["kind"]
    if kind == "refused" or (kind == "copy" and item["failed"]):
        return FAILURE
    if kind == "notice":
        return OTHER, item["severity"]
    return _ended(item) if kind == "statement" else SUCCESS


def _ended(item: Item) -> tuple[int, str]:
    if words.failed(item):
        return FAILURE
    if item["skipped"]:
        return OTHER, "Skipped"
    return SUCCESS if item["finished"] else NOT_KNOWN
