-- What the keeper needs on top of deploy/keeper.sql, to make accounts: roles for one grant each (`identity` "ephemeral"
-- or "elevated"). PostgreSQL 14 or newer. Run once per server as a superuser, after keeper.sql:
--     psql -X -v ON_ERROR_STOP=1 -f deploy/keeper-accounts.sql
-- All proxies of a target log in with the same keeper: from PostgreSQL 16 on, a role can be dropped by who made it.

-- To make and drop roles. PostgreSQL 16 and newer let it touch only roles that it has made, and give only what stands
-- below. On 14 and 15, CREATEROLE may join, alter and hand out any role that is no superuser, those included that run
-- programs on the server (pg_execute_server_program): guard the keeper's password there as you would a superuser's.
ALTER ROLE curfew_keeper CREATEROLE;
-- Besides the warm connection, up to eight for jobs on accounts, in each process of each proxy.
ALTER ROLE curfew_keeper CONNECTION LIMIT 64;

-- What it may hand out, and may not use itself, by preset. Leave out what you do not use.
DO $$
DECLARE
    role text;
BEGIN
    IF current_setting('server_version_num')::int >= 160000 THEN
        FOREACH role IN ARRAY ARRAY[
            'pg_read_all_data',   -- readonly, readwrite, admin
            'pg_write_all_data',  -- readwrite, admin
            'pg_monitor',         -- admin
            'pg_checkpoint',      -- admin
            'pg_maintain'         -- admin, PostgreSQL 17 and newer
        ] LOOP
            IF EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
                EXECUTE format('GRANT %I TO curfew_keeper WITH ADMIN TRUE, INHERIT FALSE, SET FALSE', role);
            END IF;
        END LOOP;
    END IF;
END
$$;

-- For each role that `member_of` names, and for `ddl` and `admin` the owner of each database or schema, on PostgreSQL 16
-- and newer:
--     GRANT orders_owner TO curfew_keeper WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;
-- For `schema`, a role that may hand out what it names, on any version; write `WITH INHERIT TRUE, SET FALSE` behind the
-- last line on 16 and newer:
--     CREATE ROLE curfew_sales;
--     GRANT USAGE ON SCHEMA sales TO curfew_sales WITH GRANT OPTION;
--     GRANT SELECT ON ALL TABLES IN SCHEMA sales TO curfew_sales WITH GRANT OPTION;
--     GRANT USAGE ON ALL SEQUENCES IN SCHEMA sales TO curfew_sales WITH GRANT OPTION;   (for INSERT and UPDATE)
--     GRANT curfew_sales TO curfew_keeper;
-- For `reassign_to`, on 16 and newer (on 14 and 15 without the options):
--     GRANT orders_owner TO curfew_keeper WITH INHERIT TRUE, SET TRUE;
-- For `elevate_by` = "password", on 16 and newer, for each person:
--     GRANT alice TO curfew_keeper WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;
-- With `elevate_by` = "certificate" the keeper needs no right over people's own roles at all.
-- To hand over what an account owned, the keeper must be able to connect to each database (CONNECT, which PUBLIC has).
-- In pg_hba.conf, accounts log in by password from the proxies' addresses, people's own roles by certificate:
--     hostssl all all    10.1.0.0/16 scram-sha-256
--     hostssl all +staff 10.1.0.0/16 cert                (before that line, where people are elevated)
