"""Text in any encoding: it goes on byte for byte, and is on record byte for byte (PROTOCOL.md, row 85)."""

import base64

import pytest

from proxy.contract.record import StatementStart, decode
from tests.harness import roles
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.wire import SYNC, Wire, execute, message, one_by_one, parse

ASCII_DATABASE = "of_no_encoding"
TEXTS = {
    "UTF8": "hé € 😀".encode(),
    "LATIN1": b"h\xe9",
    "WIN1252": b"\x80 \x99",
    # The second byte of each is a backslash, a quotation mark or a brace to who reads bytes for letters.
    "SJIS": b"\x83\x5c\x83\x7b",
    "BIG5": b"\xa5\x5c\xb3\x5c",
    "GBK": b"\x95\x5c",
    "EUC_JP": b"\xa4\xa2",
}


async def said_and_recorded(proxy: Proxy, sql: bytes, *parameters: tuple[str, str]) -> tuple[bytes | None, bytes]:
    """The one value that a simple query gives, and the query as the record has it."""
    grant = new_grant_id()
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token(id=grant), ("user", "dba1"), *parameters)
        wire.send(message("Q", sql + b"\0"))
        said = await wire.until("Z")
    row = next((one for one in said if one.kind == "D"), None)
    assert row is not None, [str(one) for one in said]
    start = next(one for one in map(decode, await proxy.session_of(grant)) if isinstance(one, StatementStart))
    recorded = base64.b64decode(start.sql_base64) if start.sql_base64 else start.sql.encode()
    return row.values[0], recorded


@pytest.mark.parametrize("encoding", TEXTS)
async def test_the_clients_encoding(proxy: Proxy, encoding: str) -> None:
    """PostgreSQL understands it, answers in it, and the record has the very bytes."""
    sql = b"SELECT '" + TEXTS[encoding] + b"'"
    settings = (("database", "orders"), ("client_encoding", encoding))
    assert await said_and_recorded(proxy, sql, *settings) == (TEXTS[encoding], sql)


async def test_a_database_of_no_encoding(proxy: Proxy, postgres: Cluster) -> None:
    """SQL_ASCII takes and gives any bytes."""
    await postgres.sql(
        f"CREATE DATABASE {ASCII_DATABASE} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C' OWNER {roles.APP.user}"
    )
    try:
        sql = b"SELECT '\xff\xfe\x80'"
        said = await said_and_recorded(proxy, sql, ("database", f"orders/{ASCII_DATABASE}"))
        assert said == (b"\xff\xfe\x80", sql)
    finally:
        roles.drop_database(postgres, ASCII_DATABASE)


async def test_bound_values(proxy: Proxy) -> None:
    """A value that is no UTF-8 is on record as its bytes; a NUL in one is PostgreSQL's to refuse."""
    grant = new_grant_id()
    one = b"\0\0\0\0\0\1\0\0\0\2"
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(
            proxy.token(id=grant), ("user", "dba1"), ("database", "orders"), ("client_encoding", "LATIN1")
        )
        wire.send(parse("SELECT $1::text") + message("B", one + b"h\xe9\0\0") + execute() + SYNC)
        assert next(said for said in await wire.until("Z") if said.kind == "D").values == [b"h\xe9"]
        wire.send(parse("SELECT $1::text") + message("B", one + b"h\0\0\0") + execute() + SYNC)
        assert next(said for said in await wire.until("Z") if said.kind == "E").fields["C"] == "22021"
        wire.send(one_by_one("SELECT $1::text", "alive") + SYNC)
        assert next(said for said in await wire.until("Z") if said.kind == "D").values == [b"alive"]
    records = [one for one in map(decode, await proxy.session_of(grant)) if isinstance(one, StatementStart)]
    values = [start.parameters[0] for start in records if start.parameters]
    assert [base64.b64decode(one.base64) if one.base64 else one.value for one in values] == [b"h\xe9", "h\0", "alive"]
