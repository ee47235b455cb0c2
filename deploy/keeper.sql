-- The keeper: the login with which Curfew ends backends and looks whether they are gone. PostgreSQL 14 or newer.
--
-- Run once per server as a superuser, then set a password from psql, which hashes it before it leaves the client:
--     psql -X -v ON_ERROR_STOP=1 -f deploy/keeper.sql
--     \password curfew_keeper
-- It reads no table, owns nothing, and is no superuser. It cannot end a superuser's backend (PostgreSQL forbids it):
-- an access profile's login must not be a superuser.

CREATE ROLE curfew_keeper LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS INHERIT CONNECTION LIMIT 32;
COMMENT ON ROLE curfew_keeper IS 'Curfew: ends backends whose grant is over';

-- pg_terminate_backend() on any backend that is not a superuser's.
GRANT pg_signal_backend TO curfew_keeper;
-- backend_start, state and backend_xid of other people's rows in pg_stat_activity.
GRANT pg_read_all_stats TO curfew_keeper;

-- A stop must work when every ordinary connection slot is taken (see reserved_connections, PostgreSQL 16 and newer).
DO $$
BEGIN
    IF current_setting('server_version_num')::int >= 160000 THEN
        EXECUTE 'GRANT pg_use_reserved_connections TO curfew_keeper';
    END IF;
END
$$;

-- Nobody's schema stands between the keeper and the functions it calls.
ALTER ROLE curfew_keeper SET search_path = pg_catalog;
-- The connection is kept warm on purpose; nothing it runs takes long.
ALTER ROLE curfew_keeper SET idle_session_timeout = 0;
ALTER ROLE curfew_keeper SET statement_timeout = '10s';
