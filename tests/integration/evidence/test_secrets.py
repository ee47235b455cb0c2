"""Secrets: PostgreSQL gets them, and nobody else ever reads them again."""

import pytest

from proxy.contract.record import StatementPrepare, StatementStart
from tests.harness.wire import SYNC, bind, execute, message, parse, query
from tests.integration.evidence.conftest import Audit

SECRET = "S3cr3t-canary-0815"
NOBODY = "nobody_of_these_tests"
STATEMENTS = (
    "ALTER ROLE {nobody} PASSWORD '{secret}'",
    "alter user {nobody} with encrypted password E'{secret}' valid until 'infinity'",
    "CREATE /* a */ ROLE {nobody} -- b\n LOGIN PASSWORD $x${secret}$x$ NOSUCHOPTION",
    "ALTER ROLE {nobody} PASSWORD U&'{secret}' UESCAPE '!'",
    "ALTER ROLE {nobody} PASSWORD '{secret}",
    "ALTER ROLE {nobody} PASSWORD '{secret}' '{secret}'; ALTER ROLE {nobody} PASSWORD '{secret}'",
    'ALTER ROLE {nobody} PASSWORD "{secret}"',
    "SELECT 1; ALTER ROLE {nobody} PASSWORD '{secret}'; SELECT 2",
    "DO $$ BEGIN ALTER ROLE {nobody} PASSWORD '{secret}'; END $$",
    "DO $$ BEGIN EXECUTE 'ALTER ROLE {nobody} PASSWORD ''{secret}'''; END $$",
    "DO $$ BEGIN EXECUTE format('ALTER ROLE %I PASSWORD %L', '{nobody}', '{secret}'); END $$",
    "DO $$ BEGIN EXECUTE 'ALTER ROLE {nobody} PASSWORD ' || quote_literal('{secret}'); END $$",
    "CREATE USER MAPPING FOR {nobody} SERVER s OPTIONS (user 'u', password '{secret}')",
    "ALTER SERVER s OPTIONS (ADD sslpassword '{secret}')",
    "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port=1 password={secret}' PUBLICATION p",
    "ALTER SUBSCRIPTION s CONNECTION 'postgresql://u:{secret}@127.0.0.1:1/db'",
    "SELECT dblink_connect('c', 'host=127.0.0.1 password={secret}')",
    "SELECT dblink_connect('postgresql://u@h/db?password={secret}')",
    "ALTER SYSTEM SET primary_conninfo = 'host=h password={secret}'",
    "COPY pg_class FROM PROGRAM 'curl -s https://user:{secret}@127.0.0.1/x'",
    "PREPARE p AS SELECT 'postgresql://u:{secret}@h/db'",
    "EXPLAIN ALTER ROLE {nobody} PASSWORD '{secret}'",
)


async def test_no_byte_of_a_secret_is_kept(audit: Audit) -> None:
    """By Query and by Parse, good and bad: not in the journal, in control's database, in a log, in what is shown."""
    one = await audit.whole.grant()
    texts = [text.format(nobody=NOBODY, secret=SECRET) for text in STATEMENTS]
    async with await audit.log_in(one) as wire:
        for text in texts:
            wire.send(query(text))
            await wire.until("Z")
            wire.send(parse(text) + bind() + execute() + SYNC + parse(text, "named") + SYNC)
            await wire.until("Z")
            await wire.until("Z")
        session = (await audit.leave(wire, one))["id"]
    shown = [record for record in audit.records(one) if isinstance(record, StatementStart | StatementPrepare)]
    assert len(shown) == 3 * len(texts)
    assert all(record.masked for record in shown)
    assert {record.sql for record in shown} == {text.replace(SECRET, "***") for text in texts}
    assert SECRET not in await audit.auditor("replay", session)
    assert SECRET.encode() not in audit.stored()
    assert b"***" in audit.stored()


@pytest.mark.parametrize("text", ["ALTER ROLE {role} PASSWORD '{secret}'", "ALTER USER {role} PASSWORD $${secret}$$"])
async def test_postgresql_gets_the_very_bytes(audit: Audit, text: str) -> None:
    """The password works afterwards."""
    role = "secrets_of_these_tests"
    cluster = audit.whole.cluster
    await cluster.sql(f"CREATE ROLE {role} LOGIN")
    one = await audit.whole.grant()
    try:
        await cluster.sql("ALTER ROLE curfew_app CREATEROLE")
        await cluster.sql(f"GRANT {role} TO curfew_app WITH ADMIN OPTION")
        async with await audit.log_in(one) as wire:
            said = await wire.run(text.format(role=role, secret=SECRET))
            assert [each.kind for each in said] == ["C", "Z"], said
            await audit.leave(wire, one)
        connection = await cluster.connect(user=role, password=SECRET)
        await connection.close()
    finally:
        await cluster.sql("ALTER ROLE curfew_app NOCREATEROLE")
        await cluster.sql(f"DROP ROLE {role}")
    assert SECRET.encode() not in audit.stored()


async def test_code_behind_half_a_letter(audit: Audit) -> None:
    """PostgreSQL takes the backslash for the end of a letter in SJIS, and runs what follows: that is on record."""
    one = await audit.whole.grant()
    sql = b"SELECT E'\x95\\', '; alter user x password ', pg_backend_pid(), ' '"
    async with await audit.log_in(one, client_encoding="SJIS") as wire:
        wire.send(message("Q", sql + b"\0"))
        row = next(said for said in await wire.until("Z") if said.kind == "D")
        assert row.values[2] == str(wire.pid).encode()
        await audit.leave(wire, one)
    start = next(record for record in audit.records(one) if isinstance(record, StatementStart))
    assert "pg_backend_pid()" in start.sql
