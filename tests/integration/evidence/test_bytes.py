"""Text that is no UTF-8: on record byte for byte, and shown all the same."""

import base64
from typing import Any

from proxy.contract.record import StatementEnd, StatementStart
from tests.harness import roles
from tests.harness.postgres import Cluster
from tests.harness.wire import SYNC, Wire, execute, message
from tests.integration.evidence.conftest import Audit
from tests.integration.evidence.test_shown import harmless

ENCODED = {
    "LATIN1": "h\xe9",
    "SJIS": "表示",  # the second byte of the first letter is a backslash
    "EUC_JP": "日本語",
    "GBK": "誠",
    "WIN1251": "Привет",
}
PYTHON = {"WIN1251": "cp1251"}


def encoded(text: str, encoding: str) -> bytes:
    """`text` as PostgreSQL's `encoding` has it."""
    return text.encode(PYTHON.get(encoding, encoding.lower()))


def exact(record: StatementStart) -> bytes:
    """The SQL of a record to the byte."""
    return base64.b64decode(record.sql_base64) if record.sql_base64 else record.sql.encode()


async def value(wire: Wire, sql: bytes) -> bytes | None:
    """What a query gives."""
    wire.send(message("Q", sql + b"\0"))
    return next(said for said in await wire.until("Z") if said.kind == "D").values[0]


def statements(audit: Audit, one: Any) -> list[StatementStart]:  # noqa: ANN401 a Pass
    """The statements on record."""
    return [record for record in audit.records(one) if isinstance(record, StatementStart)]


async def test_encodings_that_change_in_the_middle(audit: Audit) -> None:
    """At the start, by SET, and by a setting's text: PostgreSQL understands each, and the record has its very bytes."""
    one = await audit.whole.grant()
    sent = [b"SELECT '" + encoded(ENCODED["LATIN1"], "LATIN1") + b"'"]
    async with await audit.log_in(one, client_encoding="LATIN1") as wire:
        assert await value(wire, sent[0]) == encoded(ENCODED["LATIN1"], "LATIN1")
        for encoding, text in ENCODED.items():
            await wire.run(f"SET client_encoding = '{encoding}'")
            sql = b"SELECT '" + encoded(text, encoding) + b"', E'\\t'"
            assert await value(wire, sql) == encoded(text, encoding)
            sent += [f"SET client_encoding = '{encoding}'".encode(), sql]
        session = (await audit.leave(wire, one))["id"]
    assert [exact(record) for record in statements(audit, one)] == sent
    shown = await audit.auditor("replay", session)
    assert harmless(shown)
    assert "SELECT 'h\\xe9'" in shown


async def test_a_database_without_an_encoding(audit: Audit, postgres: Cluster) -> None:
    """SQL_ASCII takes any bytes: in SQL, in a name, in a value and in the error that repeats it."""
    name = "evidence_of_no_encoding"
    await postgres.sql(
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C' OWNER {roles.APP.user}"
    )
    raw = b"\xff\xfe\x80\xc0\xaf\xed\xa0\x80\x9b31m"
    try:
        one = await audit.whole.grant(databases=[name])
        async with await audit.log_in(one, database=f"orders/{name}") as wire:
            assert await value(wire, b"SELECT '" + raw + b"'") == raw
            wire.send(message("Q", b'SELECT * FROM "' + raw + b'"\0'))
            await wire.until("Z")
            wire.send(message("P", raw + b"\0SELECT $1::text\0\0\0"))
            sized = len(raw).to_bytes(4) + raw
            wire.send(message("B", raw + b"\0" + raw + b"\0\0\0\0\1" + sized + b"\0\0"))
            wire.send(message("E", raw + b"\0\0\0\0\0") + SYNC)
            assert next(said for said in await wire.until("Z") if said.kind == "D").values == [raw]
            session = (await audit.leave(wire, one))["id"]
    finally:
        roles.drop_database(postgres, name)
    found = statements(audit, one)
    assert [exact(record) for record in found] == [
        b"SELECT '" + raw + b"'",
        b'SELECT * FROM "' + raw + b'"',
        b"SELECT $1::text",
    ]
    assert found[2].name == raw.decode("utf-8", "backslashreplace")
    assert found[2].parameters is not None
    assert found[2].parameters[0].base64 is not None
    assert base64.b64decode(found[2].parameters[0].base64) == raw
    assert harmless(await audit.auditor("replay", session))


WRONG = (
    message("Q", b"SELECT 1\0; SELECT 'behind a NUL'\0"),
    message("Q", b"SELECT 'no NUL at its end'"),
    message("P", b"name\0SELECT 1"),
    message("P", b"\0SELECT 1\0\0\1"),
    message("B", b"\0\0\0\1\0"),
    message("B", b"\0\0\0\0\xff\xff"),
    message("E", b"no NUL"),
    message("D", b"?x\0"),
    message("C", b""),
    message("F", b"\0"),
)


async def test_a_nul_in_the_wrong_place(audit: Audit) -> None:
    """PostgreSQL refuses each message, and goes on; what a Query holds is on record to the byte, and none was run."""
    one = await audit.whole.grant()
    async with await audit.log_in(one) as wire:
        for wrong in WRONG:
            wire.send(wrong + (b"" if wrong[:1] in b"QF" else SYNC))
            [refused] = [each.fields["C"] for each in await wire.until("Z") if each.kind == "E"]
            assert refused in ("08P01", "26000")  # the latter: there is no such statement, which it looks at first
            wire.send(message("P", b"\0SELECT 'alive'\0\0\0") + message("B", b"\0\0\0\0\0\0\0\0") + execute() + SYNC)
            assert next(each for each in await wire.until("Z") if each.kind == "D").values == [b"alive"]
        session = (await audit.leave(wire, one))["id"]
    found = statements(audit, one)
    said = [exact(record) for record in found if record.kind == "query"]
    assert said == [wrong[5:].removesuffix(b"\0") for wrong in WRONG if wrong[:1] == b"Q"]
    good = [record.statement for record in audit.records(one) if isinstance(record, StatementEnd) and record.tags]
    assert [record.sql for record in found if record.statement in good] == ["SELECT 'alive'"] * len(WRONG)
    assert harmless(await audit.auditor("replay", session))
