"""Secrets: PostgreSQL gets them, and nobody else ever reads them again."""

from hashlib import md5

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
    "SET app.password = '{secret}'",
    "SET LOCAL app.secret TO $${secret}$$",
    'SET SESSION "app".U&"pass\\0077ord" = "{secret}"',
    "ALTER ROLE {nobody} SET app.api_key = '{secret}'",
    "SELECT set_config('app.token', '{secret}', false)",
    "CREATE USER MAPPING FOR {nobody} SERVER s OPTIONS (U&\"pass!0077ord\" UESCAPE '!' '{secret}')",
    "SELECT pgp_sym_encrypt('data', '{secret}'), hmac('data', E'{secret}', 'sha256')",
    "SELECT crypt('{secret}', gen_salt('bf'))",
)
BOUND = (
    ("SELECT set_config('app.password', $1, false)", (SECRET,), ["***"]),
    ("SELECT set_config($1, $2, false)", ("app.Secret", SECRET), ["app.Secret", "***"]),
    ("SELECT pgp_sym_decrypt($1, $2)", ("data", SECRET), ["data", "***"]),
    ("SELECT dblink_connect($1)", (f"host=127.0.0.1 port=1 password={SECRET}",), None),
    ("SELECT set_config('search_path', $1, false)", ("public",), ["public"]),
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


async def test_bound_secrets(audit: Audit) -> None:
    """PostgreSQL has them as they were sent; neither the journal, nor control, nor what is shown has them."""
    one = await audit.whole.grant()
    async with await audit.log_in(one) as wire:
        for sql, values, _ in BOUND:
            wire.send(parse(sql) + bind(*values) + execute() + SYNC)
            await wire.until("Z")
        said = await wire.run("SELECT md5(current_setting('app.password') || current_setting('app.secret'))")
        assert said[1].values == [md5(2 * SECRET.encode(), usedforsecurity=False).hexdigest().encode()]
        session = (await audit.leave(wire, one))["id"]
    shown = [one.parameters for one in audit.records(one) if isinstance(one, StatementStart) and one.parameters]
    assert [[value.value for value in values] for values in shown] == [
        seen or ["host=127.0.0.1 port=1 password=***"] for _, _, seen in BOUND
    ]
    assert [any(value.masked for value in values) for values in shown] == [True, True, True, True, False]
    assert SECRET not in await audit.auditor("replay", session)
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
