"""What two schemas say of the fields that exports use, and whether an event keeps to it.

`OCSF` is of the version that the export names (`SCHEMA`, 1.5.0): OCSF's own definitions of the class datastore_activity
and of its objects, https://schema.ocsf.io (attributes of profiles that are not applied left out): attribute, type,
whether it is required; and of which attributes one must be there (`OCSF_ONE_OF`). Looked up in the PyPI package
py-ocsf-models 0.10.0, which is of 1.5.0, and for what that lacks in the definitions of the versions before it (1.3.0,
1.4.0) and behind it (1.6.0), which agree: a minor version takes nothing away. `ECS` is of 8.17: field, and type or
array, as the npm package @elastic/ecs (`EcsFlat`) has them alike in 8.11.5 and in 9.0.0. Only what is used is here, so
that a field that is new in an export fails until it has been looked up there.
"""

import ipaddress
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

OCSF: Final[dict[str, dict[str, str]]] = {
    "event": {
        "activity_id": "int!",
        "activity_name": "str",
        "actor": "actor!",
        "category_name": "str",
        "category_uid": "int!",
        "class_name": "str",
        "class_uid": "int!",
        "database": "database",
        "dst_endpoint": "endpoint",
        "duration": "int",
        "end_time": "int",
        "message": "str",
        "metadata": "metadata!",
        "query_info": "query",
        "severity": "str",
        "severity_id": "int!",
        "src_endpoint": "endpoint!",
        "start_time": "int",
        "status": "str",
        "status_code": "str",
        "status_detail": "str",
        "status_id": "int",
        "time": "int!",
        "type": "str",
        "type_id": "int",
        "type_name": "str",
        "type_uid": "int!",
        "unmapped": "any",
    },
    "actor": {"app_name": "str", "session": "session", "user": "user"},
    "user": {"name": "str", "type": "str", "type_id": "int", "uid": "str"},
    "session": {
        "created_time": "int",
        "credential_uid": "str",
        "expiration_time": "int",
        "is_remote": "bool",
        "uid": "str",
    },
    "metadata": {
        "correlation_uid": "str",
        "original_time": "str",
        "product": "product!",
        "profiles": "list",
        "sequence": "int",
        "uid": "str",
        "version": "str!",
    },
    "product": {"name": "str", "vendor_name": "str", "version": "str"},
    "endpoint": {
        "hostname": "str",
        "intermediate_ips": "list",
        "ip": "ip",
        "name": "str",
        "port": "int",
        "svc_name": "str",
    },
    "database": {"name": "str", "type": "str", "type_id": "int!", "uid": "str"},
    "query": {"bytes": "int", "name": "str", "query_string": "str!", "query_time": "int", "uid": "str"},
}

OCSF_ONE_OF: Final = {
    "actor": {"app_name", "session", "user"},
    "database": {"name", "uid"},
    "endpoint": {"hostname", "ip", "name", "svc_name"},
    "query": {"name", "uid"},
    "user": {"name", "uid"},
}
"""Of which attributes an object must have one, where there is such a rule (`at_least_one`)."""
VERSIONS: Final = {"ocsf": "1.5.0", "ecs": "8.17.0"}
"""What the tables here are of."""

ECS: Final[dict[str, str]] = {
    "@timestamp": "date",
    "ecs.version": "str",
    "error.code": "str",
    "error.message": "str",
    "event.action": "str",
    "event.category": "list",
    "event.dataset": "str",
    "event.duration": "int",
    "event.id": "str",
    "event.kind": "str",
    "event.module": "str",
    "event.outcome": "str",
    "event.provider": "str",
    "event.reason": "str",
    "event.sequence": "int",
    "event.type": "list",
    "message": "str",
    "observer.name": "str",
    "observer.product": "str",
    "observer.type": "str",
    "observer.vendor": "str",
    "observer.version": "str",
    "related.ip": "list",
    "related.user": "list",
    "server.address": "str",
    "server.ip": "ip",
    "server.port": "int",
    "service.name": "str",
    "service.type": "str",
    "source.address": "str",
    "source.ip": "ip",
    "tls.cipher": "str",
    "tls.established": "bool",
    "tls.version": "str",
    "user.effective.name": "str",
    "user.name": "str",
}
ECS_REQUIRED: Final = {"@timestamp", "ecs.version"}
ECS_OURS: Final = ("curfew", "db")
"""Namespaces that the schema leaves to others."""
ECS_TYPES: Final = {
    "database": {"access", "change", "info", "error"},
    "network": {"access", "allowed", "connection", "denied", "end", "info", "protocol", "start"},
    "session": {"start", "end", "info"},
}
"""`event.type`s that each `event.category` expects."""


def ocsf_faults(event: dict[str, Any], kind: str = "event") -> Iterator[str]:
    """Where an event does not keep to OCSF."""
    fields = OCSF[kind]
    yield from (f"{kind} lacks {name}" for name, what in fields.items() if what.endswith("!") and name not in event)
    if kind in OCSF_ONE_OF and not OCSF_ONE_OF[kind] & set(event):
        yield f"{kind} has none of {sorted(OCSF_ONE_OF[kind])}"
    for name, value in event.items():
        what = fields.get(name, "").rstrip("!")
        if not what:
            yield f"{kind} has no {name}"
        elif what in OCSF:
            yield from ocsf_faults(value, what)
        elif not _is(what, value):
            yield f"{kind}.{name} is {value!r}"


def ecs_faults(document: dict[str, Any]) -> Iterator[str]:
    """Where a document does not keep to ECS."""
    flat = dict(_flat({name: value for name, value in document.items() if name not in ECS_OURS}))
    yield from (f"no {name}" for name in ECS_REQUIRED - set(flat))
    for name, value in flat.items():
        if name not in ECS:
            yield f"there is no {name}"
        elif not _is(ECS[name], value):
            yield f"{name} is {value!r}"
    event = document["event"]
    expected = set().union(*(ECS_TYPES[one] for one in event["category"]))
    if event["kind"] != "event" or event["outcome"] not in {"success", "failure", "unknown"}:
        yield f"{event['kind']} {event['outcome']}"
    yield from (f"{event['category']} expects no {one}" for one in event["type"] if one not in expected)


def _flat(document: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield path + name, value


def _is(what: str, value: object) -> bool:
    if what in ("ip", "date"):
        try:
            return bool(ipaddress.ip_address(str(value)) if what == "ip" else datetime.fromisoformat(str(value)))
        except ValueError:
            return False
    kinds = {"int": int, "str": str, "bool": bool, "list": list}
    return what == "any" or type(value) is kinds[what]
