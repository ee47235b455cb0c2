-- The keeper: the login with which Curfew ends backends and looks whether they are gone. PostgreSQL 14 to 18.
--
-- Run once per server as a superuser, then set a password from psql, which hashes it before it leaves the client:
--     psql -X -v ON_ERROR_STOP=1 -f deploy/keeper.sql
--     \password curfew_keeper
-- Another name: psql -v keeper=NAME ... (targets.TARGET.keeper.user). A second run changes nothing but its connection
-- limit and settings. On a managed service whoever has CREATEROLE, and these predefined roles to give, may run it.
--
-- It reads no table, owns nothing, and is no superuser. PostgreSQL lets it end no superuser's backend, so Curfew refuses
-- the sessions of an access profile whose login is a superuser. Who needs such a profile needs a superuser keeper.

\if :{?keeper}
\else
    \set keeper curfew_keeper
\endif

SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = :'keeper') AS is_new,
       pg_catalog.current_setting('server_version_num')::int >= 160000 AS has_reserved_slots
\gset

\if :is_new
    CREATE ROLE :"keeper" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS INHERIT;
\endif
-- One connection for each process of each proxy (proxy.workers), and one more while it is made anew.
ALTER ROLE :"keeper" CONNECTION LIMIT 64;
COMMENT ON ROLE :"keeper" IS 'Curfew: ends backends whose grant is over';

-- pg_terminate_backend() on any backend that is not a superuser's.
GRANT pg_signal_backend TO :"keeper";
-- backend_start, state and backend_xid of other people's rows in pg_stat_activity.
GRANT pg_read_all_stats TO :"keeper";

-- The keeper is connected before it is needed, so a stop works when every connection slot is taken. Should it lose its
-- connection in such a moment, it can come back through the slots of reserved_connections, which is 0 by default:
-- PostgreSQL 16 or newer, ALTER SYSTEM SET reserved_connections = 5, and a restart. Before 16 there are only superusers'
-- (superuser_reserved_connections), and the keeper has to wait for a free slot.
\if :has_reserved_slots
    GRANT pg_use_reserved_connections TO :"keeper";
\endif

-- Nobody's schema stands between the keeper and the functions it calls.
ALTER ROLE :"keeper" SET search_path = pg_catalog;
-- The connection is kept warm on purpose; nothing it runs takes long.
ALTER ROLE :"keeper" SET idle_session_timeout = 0;
ALTER ROLE :"keeper" SET statement_timeout = '10s';
