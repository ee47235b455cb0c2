"""Whether values that are written differently are the same: PostgreSQL itself says so.

Its log has a bound value as the type's output function writes it, the record as the client sent it (or decoded from
binary). A server reads both as values of their type, and they are the same where it writes them the same.
"""

import base64
from collections.abc import Iterable, Iterator

import psycopg
from psycopg import pq

from proxy.contract.record import Parameter
from tests.harness.witness import Logged, Recorded

_TEXT, _BINARY = 0, 1
_PREPARED = b"judged"

Connection = psycopg.Connection[tuple[object, ...]]


def different(pairs: Iterable[tuple[Logged, Recorded]], connection: Connection) -> Iterator[str]:
    """The values of these statements that are not the same."""
    for logged, recorded in pairs:
        count = len(logged.values)
        if count != len(recorded.parameters):
            yield f"{recorded}: {len(recorded.parameters)} values on record, PostgreSQL logged {count}"
            continue
        types = _types(recorded, connection.pgconn)
        for number, (text, value) in enumerate(zip(logged.values, recorded.parameters, strict=True)):
            if not _same(text, value, types[number], connection.pgconn):
                yield f"{recorded}: ${number + 1} is {value} on record, PostgreSQL logged {text!r}"


def _types(recorded: Recorded, server: pq.abc.PGconn) -> list[int]:
    """The parameters' types: as the client declared them, else as the server understands the text."""
    declared = [value.type for value in recorded.parameters]
    if all(declared):
        return declared
    server.prepare(_PREPARED, recorded.text.encode(), declared)
    told = server.describe_prepared(_PREPARED)
    server.exec_(b"DEALLOCATE " + _PREPARED)
    return [told.param_type(number) or one for number, one in enumerate(declared)]


def _same(logged: str | None, value: Parameter, oid: int, server: pq.abc.PGconn) -> bool:
    if logged is None or (value.value is None and value.base64 is None):
        return logged is None and value.value is None and value.base64 is None
    expected = _written(logged.encode(), _TEXT, oid, server)
    if value.base64 is None:
        text = str(value.value)
        return text == logged or (expected is not None and _written(text.encode(), _TEXT, oid, server) == expected)
    raw = base64.b64decode(value.base64)
    return expected is not None and expected in [_written(raw, form, oid, server) for form in (_BINARY, _TEXT)]


def _written(value: bytes, form: int, oid: int, server: pq.abc.PGconn) -> bytes | None:
    """As the server writes it; None where it is no value of this type."""
    result = server.exec_params(b"SELECT $1", [value], [oid], [form], _TEXT)
    return result.get_value(0, 0) if result.status == pq.ExecStatus.TUPLES_OK else None
