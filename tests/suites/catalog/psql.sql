-- What psql's own commands say, each behind the line that names it. Run on both ways, and compared line by line.
\set ON_ERROR_STOP off
\set VERBOSITY verbose
\set SHOW_CONTEXT always
\pset pager off
\echo # schema
CREATE SCHEMA s;
SET search_path = s, public;
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE DOMAIN positive AS int CHECK (value > 0);
CREATE TABLE parent (id positive PRIMARY KEY, body text NOT NULL, mood mood DEFAULT 'ok', at timestamptz);
CREATE TABLE child (id int GENERATED ALWAYS AS IDENTITY, parent int REFERENCES parent, x bytea) PARTITION BY RANGE (id);
CREATE TABLE child_1 PARTITION OF child FOR VALUES FROM (1) TO (100);
CREATE INDEX child_parent ON child (parent);
CREATE VIEW v AS SELECT id, body FROM parent WHERE id < 10;
CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM parent;
CREATE SEQUENCE counter;
CREATE FUNCTION f(a int, b text DEFAULT 'x') RETURNS int LANGUAGE sql AS 'SELECT a + length(b)';
CREATE FUNCTION noisy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'row %', NEW.id; RETURN NEW; END $$;
CREATE TRIGGER noisy BEFORE INSERT ON parent FOR EACH ROW EXECUTE FUNCTION noisy();
CREATE ROLE reader;
GRANT SELECT ON parent TO reader;
ALTER TABLE parent ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON parent FOR SELECT TO reader USING (body = current_user);
COMMENT ON TABLE parent IS 'Zoë''s, with "quotes" and ünïcode';
INSERT INTO parent SELECT n, repeat('Zoë ', n), 'ok', '2026-11-22 10:00+00' FROM generate_series(1, 12) n;
INSERT INTO child (parent, x) SELECT n, decode(md5(n::text), 'hex') FROM generate_series(1, 12) n;
\echo # d
\d
\echo # d+ parent
\d+ parent
\echo # d+ child
\d+ child
\echo # dt+ di ds dv dm
\dt s.*
\di s.*
\ds
\dv
\dm
\echo # df+ sf sv ef
\df+ f
\sf f
\sv v
\echo # du dn+ dp ddp drds
\du reader
\dn+ s
\dp
\ddp
\drds
\echo # dT+ dD dC do dO
\dT+ mood
\dD
\dC positive
\do ||
\dO s.*
\echo # da dA dAc db dc dd des det deu dew dE
\da sum
\dA
\dAc btree int4
\db
\dc s.*
\dd s.*
\des
\det
\deu
\dew
\dE
\echo # dF dFd dFp dFt dg dl dL dP dRp dRs dx dX dy
\dF english
\dFd english_stem
\dFp
\dFt snowball
\dg reader
\dl
\dL
\dP
\dRp
\dRs
\dx
\dX
\dy
\echo # dconfig l z encoding
\dconfig work_mem
\l programs
\z parent
\encoding
\encoding LATIN1
SELECT 'Zoë' AS latin;
\encoding UTF8
\echo # conninfo and variables
\conninfo
\echo :DBNAME :USER :HOST :ENCODING :SERVER_VERSION_NUM
\echo # c
\c -
SHOW search_path;
\c "dbname=programs application_name=again"
SHOW application_name;
\c nosuchdatabase
SET search_path = s, public;
\echo # gset gexec gdesc gx crosstabview g
SELECT 1 AS one, 'two' AS two \gset chosen_
\echo :chosen_one :chosen_two
SELECT 'SELECT ' || n FROM generate_series(1, 3) n \gexec
SELECT 1::numeric(5, 2) AS a, 'x'::text AS b, now() AS c \gdesc
SELECT * FROM parent WHERE id = 1 \gx
SELECT n % 2 AS r, n % 3 AS c, count(*) FROM generate_series(1, 12) n GROUP BY 1, 2 ORDER BY 1, 2 \crosstabview
\echo # copy
\copy parent TO 'parent.copy'
\copy (SELECT * FROM parent ORDER BY id) TO STDOUT CSV HEADER
CREATE TABLE copied (LIKE parent);
\copy copied FROM 'parent.copy'
\copy copied FROM STDIN CSV
13,late,ok,
14,"with, comma",sad,2026-11-22
\.
\copy copied FROM STDIN
broken
\.
SELECT count(*), md5(string_agg(body, '' ORDER BY id)) FROM copied;
\copy copied FROM 'no such file'
\echo # lo_import lo_export lo_list lo_unlink
\lo_import 'parent.copy' 'a comment'
\lo_export :LASTOID 'exported'
\lo_list
\lo_unlink :LASTOID
\echo # errors
SELECT 1 / 0;
\errverbose
SELECT * FROM nosuch;
SELECT f('x');
DO $$ BEGIN RAISE EXCEPTION 'mine' USING DETAIL = 'a detail', HINT = 'a hint', ERRCODE = 'P0042'; END $$;
\echo :SQLSTATE :ERROR :ROW_COUNT :LAST_ERROR_MESSAGE
INSERT INTO parent VALUES (-1, 'x'), (1, 'y');
\echo # several statements
SELECT 1\; SELECT 2\; SELECT 3;
BEGIN\; SELECT 1\; SELECT 1 / 0\; SELECT 2;
ROLLBACK;
\echo # AUTOCOMMIT, ON_ERROR_ROLLBACK, FETCH_COUNT
\set AUTOCOMMIT off
INSERT INTO copied VALUES (100, 'gone');
ROLLBACK;
\set ON_ERROR_ROLLBACK on
INSERT INTO copied VALUES (101, 'stays');
SELECT 1 / 0;
COMMIT;
\set AUTOCOMMIT on
\set FETCH_COUNT 3
SELECT id, length(body) FROM parent ORDER BY id;
\unset FETCH_COUNT
\echo # LISTEN and NOTIFY
LISTEN channel;
SELECT pg_notify('channel', 'a payload') IS NOT NULL AS sent;
\echo # formats
\pset format html
SELECT id, mood FROM parent WHERE id < 3 ORDER BY id;
\pset format csv
SELECT id, mood FROM parent WHERE id < 3 ORDER BY id;
\pset format latex
SELECT id, mood FROM parent WHERE id < 3 ORDER BY id;
\pset format aligned
\echo # PREPARE, EXECUTE, DECLARE, FETCH
PREPARE p (int) AS SELECT $1 + 1 AS next;
EXECUTE p (41);
DEALLOCATE p;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT id FROM parent ORDER BY id;
FETCH 2 FROM c;
FETCH BACKWARD 1 FROM c;
MOVE LAST FROM c;
COMMIT;
\echo # a long row and a long statement
SELECT length(repeat('x', 20000000)) AS long;
SELECT md5(string_agg(md5(n::text), '')) FROM generate_series(1, 100000) n;
