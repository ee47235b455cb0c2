"""Bound values, recorded and bound again: PostgreSQL gets the very same value."""

import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import pq
from psycopg.pq.abc import PGconn

from control.client.rerun_messages import value
from proxy.wire import values
from tests.harness.postgres import Cluster

SENDS = {
    16: "boolsend", 18: "charsend", 19: "namesend", 20: "int8send", 21: "int2send", 23: "int4send", 25: "textsend",
    26: "oidsend", 114: "json_send", 142: "xml_send", 700: "float4send", 701: "float8send", 705: "unknownsend",
    1042: "bpcharsend", 1043: "varcharsend", 1082: "date_send", 1083: "time_send", 1114: "timestamp_send",
    1184: "timestamptz_send", 1700: "numeric_send", 2950: "uuid_send", 3802: "jsonb_send",
}  # fmt: skip
SIZES = {16: 1, 18: 1, 20: 8, 21: 2, 23: 4, 26: 4, 700: 4, 701: 8, 1082: 4, 1083: 8, 1114: 8, 1184: 8, 2950: 16}
ELEMENTS = {1007: 23, 1016: 20, 1009: 25, 1022: 701, 1021: 700, 1000: 16, 1231: 1700, 1185: 1184, 2951: 2950, 199: 114}
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS, lambda inner: st.lists(inner, max_size=3), max_leaves=5
)


def numerics() -> st.SearchStrategy[bytes]:
    """As numeric_send makes them, and not."""
    digits = st.lists(st.integers(0, 9999), max_size=6)
    parts = st.tuples(digits, st.integers(-5, 5), st.sampled_from([0, 0x4000, 0xC000, 0xD000]), st.integers(0, 20))
    return parts.map(lambda it: struct.pack(f"!HhHH{len(it[0])}H", len(it[0]), it[1], it[2], it[3], *it[0]))


def scalars(oid: int) -> st.SearchStrategy[bytes]:
    """Binary values of a type; most are good."""
    if oid == 1700:
        return numerics()
    if oid in (114, 3802):
        import json  # noqa: PLC0415 of this branch alone

        return JSON.map(lambda it: (b"\1" if oid == 3802 else b"") + json.dumps(it).encode())
    if oid == 142:
        return st.sampled_from([b"<a/>", b"", b"<a>\xc3\xbc</a>", b"<a", b"x &lt; y"])
    if oid in (1082, 1083, 1114, 1184):  # Near enough to be a date of ours, mostly.
        size = SIZES[oid]
        most = 1_000_000 if size == 4 else 200 * 365 * 86_400 * 1_000_000
        near = st.integers(-most, most).map(lambda it: it.to_bytes(size, signed=True))
        return near | st.binary(min_size=size, max_size=size)
    if oid in SIZES:
        return st.binary(min_size=SIZES[oid], max_size=SIZES[oid])
    return TEXTS.map(str.encode)


def arrays(element: int) -> st.SearchStrategy[bytes]:
    """One or two dimensions, with NULLs."""
    head = struct.Struct("!iiIii")
    items = st.lists(st.none() | scalars(element), max_size=5)

    def packed(them: list[bytes | None]) -> bytes:
        sized = [b"\xff\xff\xff\xff" if it is None else struct.pack("!i", len(it)) + it for it in them]
        start = head.pack(1, 0, element, len(them), 1) if them else struct.pack("!iiI", 0, 0, element)
        return start + b"".join(sized)

    return items.map(packed)


@pytest.fixture(scope="module")
def server(postgres: Cluster) -> Iterator[PGconn]:
    """A connection that takes values in either format; dates are shown in no form that could be taken for another."""
    connection = pq.PGconn.connect(postgres.dsn().encode())
    connection.exec_(b"SET DateStyle = 'German, DMY'; SET TimeZone = 'Asia/Kathmandu'; SET xmloption = content")
    yield connection
    connection.finish()


def bound(server: PGconn, oid: int, raw: bytes, form: int) -> bytes | None:
    """The value that PostgreSQL has then, in its binary form; None where it takes it for none."""
    send = SENDS.get(oid, "array_send")
    result = server.exec_params(f"SELECT {send}($1)".encode(), [raw], [oid], [form])
    return result.get_value(0, 0) if result.status == pq.ExecStatus.TUPLES_OK else None


@pytest.mark.parametrize("oid", [*SENDS, *ELEMENTS])
def test_the_very_same_value(server: PGconn, oid: int) -> None:
    """Of each type that is decoded: what was bound in binary, bound again as it was recorded."""
    made = arrays(ELEMENTS[oid]) if oid in ELEMENTS else scalars(oid)

    @settings(max_examples=40, database=None, suppress_health_check=list(HealthCheck))
    @given(made)
    def holds(raw: bytes) -> None:
        recorded = values.decode(oid, 1, raw)
        again = value(recorded)
        assert again is not None
        first = bound(server, oid, raw, 1)
        assert bound(server, oid, again, int(recorded.binary)) == first, (raw, recorded)

    holds()
