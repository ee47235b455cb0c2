"""The keeper's own SQL in a database that somebody has made hostile (PROTOCOL.md, T11; CVE-2018-1058)."""

import time

from proxy.contract.record import SessionEnd, decode
from tests.conftest import MakeProxy, Watcher
from tests.harness import roles
from tests.harness.postgres import Cluster
from tests.harness.proxy import new_grant_id
from tests.harness.tokens import grant as make_grant
from tests.harness.waiting import eventually
from tests.harness.wire import Wire, query

LEAD_S, WITHIN_S = 0.7, 1.0
SHADOWS = """
CREATE SCHEMA evil;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
CREATE VIEW evil.pg_stat_activity AS SELECT * FROM pg_catalog.pg_stat_activity WHERE false;
CREATE VIEW evil.pg_roles AS SELECT * FROM pg_catalog.pg_roles WHERE false;
CREATE FUNCTION evil.pg_terminate_backend(int) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION evil.pg_terminate_backend(int, bigint DEFAULT 0) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION evil.pg_xact_status(xid8) RETURNS text LANGUAGE sql AS $$SELECT 'committed'$$;
CREATE FUNCTION evil.unnest(int[]) RETURNS SETOF int LANGUAGE sql AS 'SELECT 0 WHERE false';
CREATE FUNCTION evil.never(int, int) RETURNS bool LANGUAGE sql AS 'SELECT false';
CREATE FUNCTION evil.never(timestamptz, timestamptz) RETURNS bool LANGUAGE sql AS 'SELECT false';
CREATE OPERATOR evil.= (FUNCTION = evil.never, LEFTARG = int, RIGHTARG = int);
CREATE OPERATOR evil.= (FUNCTION = evil.never, LEFTARG = timestamptz, RIGHTARG = timestamptz);
GRANT SELECT ON ALL TABLES IN SCHEMA evil TO PUBLIC;
"""
SETTINGS = {
    "search_path": "evil, pg_catalog",
    "statement_timeout": "1",
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "serializable",
    "timezone": "'Pacific/Kiritimati'",
    "datestyle": "'German'",
    "client_encoding": "'LATIN1'",
    "idle_session_timeout": "100",
    "standard_conforming_strings": "off",
}


async def test_the_owner_of_the_keepers_database(
    make_proxy: MakeProxy, postgres: Cluster, database: str, watcher: Watcher
) -> None:
    """Whoever owns it can change every name and every setting in it; the stop works, and its proof is true.

    The settings are given to the keeper's role in that database, which counts for more than what keeper.sql gives it.
    """
    postgres.psql(f"SET ROLE {roles.APP.user};" + SHADOWS, database=database)
    for name, value in SETTINGS.items():
        postgres.psql(f"ALTER ROLE {roles.KEEPER.user} IN DATABASE {database} SET {name} = {value}")
    password = {"env": "KEEPER_PASSWORD"}
    keeper = {"user": roles.KEEPER.user, "password": password, "database": database}
    proxy = make_proxy(postgres, target={"keeper": keeper}, environment={"KEEPER_PASSWORD": roles.KEEPER.password})
    grant, end = new_grant_id(), time.time() + LEAD_S
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.signer.token(make_grant(id=grant, profile="app"), exp=end))
        wire.send(query("CREATE TEMP TABLE t AS SELECT 1; SELECT pg_sleep(60)"))

        async def gone() -> bool:
            return not await watcher.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", wire.pid)

        await eventually(gone, within=LEAD_S + WITHIN_S)
        assert (await wire.rest())[-1].fields["D"] == "Work that was open: rolled back."
    last = decode((await proxy.session_of(grant))[-1])
    assert isinstance(last, SessionEnd)
    assert last.gone_at is not None
    assert 0 < last.gone_at - last.decided_at < WITHIN_S * 1e9
