"""Decoded values against PostgreSQL's own text for the very same bytes."""

import pytest

from proxy.wire.values import decode
from tests.harness.postgres import Cluster

EXPRESSIONS = [
    ("bool", "true"),
    ("bool", "false"),
    ("int2", "-32768"),
    ("int4", "2147483647"),
    ("int8", "-9223372036854775808"),
    ("oid", "4294967295"),
    *[("float4", f"'{text}'") for text in ("0.1", "3.4028235e38", "-1e-45", "NaN", "-Infinity", "16777216")],
    *[("float8", f"'{text}'") for text in ("0.1", "1.7976931348623157e308", "Infinity", "-2.5")],
    ("text", "'it''s ünï'"),
    ("varchar", "'x'"),
    ("bpchar", "'x'"),
    ("name", "'x'"),
    ("json", """'{"a": [1]}'"""),
    ("jsonb", """'{"a": [1, null]}'"""),
    ("xml", "'<a/>'"),
    ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"),
    *[("date", f"'{text}'") for text in ("1999-12-31", "0001-01-01", "9999-12-31", "infinity", "-infinity")],
    *[("time", f"'{text}'") for text in ("00:00", "23:59:59.999999", "12:30:00.5")],
    *[("timestamp", f"'{text}'") for text in ("2026-11-22 12:00:00.123456", "0001-01-01 00:00:00", "-infinity")],
    *[("timestamptz", f"'{text}'") for text in ("2026-11-22 12:00:00.123456+02", "1969-01-01 00:00:00Z", "infinity")],
    *[
        ("numeric", f"'{text}'")
        for text in (
            *("0", "0.00", "1", "-1", "10000", "99999999", "12345.678", "-0.00012", "1e30", "1e-30", "NaN"),
            *("Infinity", "-Infinity", "100000000.0001", "0.1000", "123456789012345678901234567890.123456789"),
        )
    ],
    ("int4[]", "'{1,NULL,3}'"),
    ("int8[]", "'{{1,2},{3,4}}'"),
    ("text[]", """'{"a b","",NULL,"NULL","q\\"\\\\",x}'"""),
    ("bool[]", "'{t,f,NULL}'"),
    ("numeric[]", "'{1.50,NaN}'"),
    ("uuid[]", "'{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}'"),
    ("date[]", "'{2026-11-22}'"),
    ("int2[]", "'{}'"),
]

SENDERS = {
    "bool": "boolsend", "int2": "int2send", "int4": "int4send", "int8": "int8send", "oid": "oidsend",
    "float4": "float4send", "float8": "float8send", "text": "textsend", "varchar": "varcharsend",
    "bpchar": "bpcharsend", "name": "namesend", "json": "json_send", "jsonb": "jsonb_send", "xml": "xml_send",
    "uuid": "uuid_send", "date": "date_send", "time": "time_send", "timestamp": "timestamp_send",
    "timestamptz": "timestamptz_send", "numeric": "numeric_send",
}  # fmt: skip


def shown(value: object) -> object:
    """A value in PostgreSQL's words (its timestamptz carries the short offset)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.replace("+00:00", "+00") if isinstance(value, str) else value


async def test_binary_values_read_as_postgresql_shows_them(postgres: Cluster) -> None:
    """For every type that is decoded: PostgreSQL's binary form, decoded, is PostgreSQL's text."""
    columns = [
        f"select '{name}'::regtype::oid, {SENDERS.get(name, 'array_send')}(x), x::text from (select ({it})::{name} x) _"
        for name, it in EXPRESSIONS
    ]
    rows = await postgres.sql(" union all ".join(columns))
    assert len(rows) == len(EXPRESSIONS)
    for (name, expression), (oid, raw, text) in zip(EXPRESSIONS, rows, strict=True):
        value = shown(decode(oid, 1, raw).value)
        if isinstance(value, float):
            assert value == float(text), (name, expression)
        else:
            assert str(value) == text, (name, expression)


@pytest.mark.parametrize("name", ["bytea", "point", "interval", "inet"])
async def test_other_types_keep_their_bytes(postgres: Cluster, name: str) -> None:
    """What is not decoded is there all the same."""
    literal = {"bytea": r"'\x00ff'", "point": "'(1,2)'", "interval": "'1 day'", "inet": "'10.0.0.1'"}[name]
    sender = {"bytea": "byteasend", "point": "point_send", "interval": "interval_send", "inet": "inet_send"}[name]
    [row] = await postgres.sql(f"select '{name}'::regtype::oid, {sender}({literal}::{name})")
    decoded = decode(row[0], 1, row[1])
    assert decoded.value is None
    assert decoded.base64
