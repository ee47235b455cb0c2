"""Masking: what must go, what must stay, and that a mask is no place to hide code in."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import tokens
from proxy.wire.secret_values import MASK
from proxy.wire.secrets import hide, mask
from proxy.wire.statements import read_text

GONE = [  # what goes stands between « and »
    "ALTER ROLE bob PASSWORD '«hunter 2»' VALID UNTIL 'x'",
    "create user x with encrypted password E'«a\\'b»' login",
    "create role a Password $x$«se'cret»$x$;",
    "alter user x password U&'«s\\0065c»' uescape '!'",
    "alter user x password N'«it''s»'",
    "alter user x password /* a /* b */ */ -- d\n '«p1'\n-- c\n 'p2»'",
    "alter user x password='«abc»'",
    'alter user x password "«a b»"',
    "create role x password '«unterminated»",
    "alter user x password '«ab\\»'",
    "alter user x password '«a\\'b c»'",
    "select 'C:\\'; alter user x password '«ab c»'",
    "select 1; alter user x password '«a b»'; select 2",
    "İ ALTER USER u PASSWORD '«sEc»'",
    " -- c\n /* d */ alter user x password '«a b»'",
    "create group g user u password '«x»'",
    "alter /* a */ user x password '«a b»'",
    "alter--\nuser x password '«a b»'",
    "create -- a\n /* b */ -- c\n role x password '«a (b)»'",
    # Options of foreign servers and user mappings.
    "create user mapping for a server s options (user 'u', password '«p w»')",
    "alter user mapping for a server s options (set \"password\" '«s»')",
    "create server s foreign data wrapper w options (sslpassword '«x»')",
    # Connection strings.
    "create subscription s connection 'host=h password=«sec» user=u' publication p",
    "create subscription s connection 'host=h password=''«my sec»'' user=u'",
    "select dblink('postgresql://u:«sec»@h/db','x')",
    "select dblink('postgresql://h/db?user=u&password=«sec»&x=y','x')",
    "select dblink_connect('host=h PassWord=«sec»')",
    "alter system set primary_conninfo = 'host=h password=«sec»'",
    "copy t from program 'curl -s https://user:«se-cret%21»@host/x | tail'",
    "comment on table t is 'from ftp://u:«sec»@h/ and ftp://h/'",
    "-- see https://u:«sec»@h/\nselect 1",
    # Put together by the server, which quotes it.
    "do $$begin execute format('alter role x password %L', '«sec»'); end$$",
    "select format('alter role %I PASSWORD %L valid until %L', 'bob', '«sec»', 'infinity')",
    "select format('alter role %2$I encrypted password %1$L', '«sec»', f(a, b))",
    "select format('alter role %I password ''%s''', /* who, */ f(a, 'b'), '«sec»')",
    "select 'alter role x password ' || quote_literal('«sec»')",
    "do $$begin execute 'alter role x PASSWORD ' || Quote_Literal(E'«sec»') || ';'; end$$",
    # Settings.
    "SET app.password = '«hunter2»'",
    "set local app.secret to «hunter2»",
    "set session x.api_key = «12345»",
    "SET app.token /* a */ = -- b\n E'«abc»', '«def»'",
    'set "app.Token" to $x$«abc»$x$',
    'set app."jwt_secret" = "«abc»"',
    "set U&\"app.pass\\0077ord\" = U&'«s\\0065c»'",
    "set password = '«abc»'",
    "select 1; set session.token = '«abc»'",
    "set a.secret = '«abc'\n'def»'",
    "set a.secret = '«abc'  -- d\n  'def»'",
    "set a.secret = «+1.5»",
    "alter role x set app.secret to '«abc»'",
    "alter role x in database d set app.secret to «abc»",
    "alter database d set app.jwt_secret to '«abc»'",
    "alter system set x.private_key = '«abc»'",
    "alter database d set app.jwt_secret to «abc»",
    "alter system set x.private_key = «abc»; select 1",
    "create function f() returns int set app.secret = '«abc»' language sql as 'select 1'",
    "do $$begin set local app.secret = '«abc»'; end$$",
    "select set_config('app.password', '«abc»', false)",
    "select pg_catalog . \"set_config\" ( E'app.secret' , /* a */ $$«abc»$$, true)",
    "select set_config('app.' || 'x', 'y', true), set_config('App.TOKEN', ('«abc»'::text), f('x'))",
    "select U&\"set_!0063onfig\" uescape '!' ('a.secret', '«abc»', true)",
    "do $$begin perform set_config('app.secret', '«abc»', true); end$$",
    # Options.
    "create user mapping for a server s options (U&\"pass\\0077ord\" '«s x»')",
    "create user mapping for a server s options (u&\"p!0061ss!+000077ord\" UESCAPE '!' '«s x»')",
    "create user mapping for a server s options (user 'u', api_key '«s x»', token '«t»')",
    "alter server s options (set secret '«abc»')",
    # pgcrypto.
    "select pgp_sym_encrypt('data', '«key»')",
    "select PGP_SYM_DECRYPT(col, '«key»', 'cipher-algo=aes256') from t where a = 'x'",
    "insert into t values (1, 'token', public.\"pgp_sym_encrypt_bytea\"('d'::bytea, E'«k\\\\x»'))",
    "select pgp_pub_decrypt(m, dearmor('-----'), '«k»')",
    f"select pgp_pub_decrypt(m, dearmor('«-----BEGIN PGP KEY-----\n\n{'lQOY' * 10}\n=abcd\n-----END PGP KEY-----»'))",
    "select encode(hmac('data', '«key»', 'sha256'), 'hex')",
    "select encrypt(d, decode('«00ff»', 'hex'), 'aes'), decrypt_iv(d, '«k»'::bytea, 'iv', 'aes')",
    "select * from users where pw = crypt('«hunter2»', pw) and name = 'x'",
    "do $$begin perform pgp_sym_decrypt(x, '«k»'); end$$",
    "select crypt/* a */('«hunter2»', gen_salt('bf'))",
    "select hmac('a' || 'b', '«k»' || '«l»', 'md5')",
    # Within strings and comments.
    "do $$begin alter role x password '«sec»'; end$$",
    "do $$begin execute 'alter role x password ''«sec»'''; end$$",
    "do 'begin execute ''alter role x password ''''«sec»''''''; end'",
    "select f(E'alter role x password\\n\\'«sec»\\'')",
    "-- alter role x password '«old»'\nselect 1",
    "/* alter role x password '«old»' */ select 1",
]

STAYS = [
    "select 1",
    "",
    "select password from users where password = $1",
    "update users set password = 'x'",
    "select 'forgot password', 'drop table t'",
    "select 'it''s my password', ' and more '",
    "alter role x password null",
    "alter role x password ''",
    "CREATE ROLE password SUPERUSER",
    "create table t (password text default 'x')",
    "insert into t (a, password) values ('x', 'y')",
    "comment on column t.password is 'text'",
    "select \"a'password 'x\", 'b'",
    "select $1, password $2",
    "select 'see http://example.org/a@b'",
    "alter role x set search_path = 'password'",
    "select format('no password %s', 'x')",
    "select format('100%% password %L', x, 'y')",
    "select * from t where a like '%password%' and b = 'x'",
    "select 'https://example.org:8443/x@y'",
    "select 'password ' || quote_ident('x')",
    "copy t from program 'curl http://a:$evil@h'",
    "update users set token = 'x', key = 'y' where secret = 'z'",
    "update t set api_key = (select 'x')",
    "select token 'x', secret from t where key = 'k'",
    "set search_path = 'app', 'secret'",
    "set app.secret from current",
    "set app.secret to default",
    "set local role 'secret'",
    "select set_config('search_path', 'secret', true)",
    "select set_config('request.jwt.claims', '{}', true)",
    "select encrypt('data', x, 'aes'), hmac('d', k, 'sha256'), digest('x', 'md5')",
    "select my_pgp_sym_encrypt('data', 'key')",
    "select pgp_pub_encrypt('data', 'key')",
    "select hmac('d', (select k from keys where name = 'main'), 'md5')",
    "alter role x set app.secrets = 'x'",
    "insert into options values ('secret', 'x')",
]

HIDING = [
    # Each is code that PostgreSQL would run, within what a careless reader would take for a password.
    "SELECT query_to_xml(password 'delete from t')",
    "DO $$ begin execute password 'drop table t'; end $$",
    "DO $A$ /* $a$ password $z$ */ perform evil(); /* $z$ */ $A$",
    "SELECT '\\' ; create user x password ', evil(), ' '",
    "SELECT '\\' ; create user x password ', evil(), '\\' '",
    "SELECT e''\n'\\'; create user x password ', evil(), ' '",
    "SELECT e'' -- c\n'\\'; create user x password ', evil(), ' '",
    "SELECT 'select ''' || ' password '' , evil() , '' ' ",
    "create function f() returns int language plpython3u as $$ # ' password '\nevil()\n# ' $$",
    "DO $$ begin password := 'drop table t'; execute password; end $$",
    "/* /* */ alter user x password ' */ select evil() -- '",
    "select t.create role, query_to_xml(password 'delete from t') from t",
    "create user x password$b$; select evil(); -- $b$",
    'select """; create user x password \'", evil(), \'"\' ',
    "alter user x password 'x'; ; select password 'y' , evil() , 'z'",
    "create /* /* */ user x password ' */ role y; select evil() -- '",
    "create /* ' */ user /* ' */ x; select password ', evil(), '",
    "copy t from program 'http://a:$(evil())@h'",
    "copy t from program 'x://a:;evil();@h'",
    "do $$begin execute format('select 1 password %L', 'x', 'drop table t'); execute 'drop table t'; end$$",
    "do $$begin execute format('/* password %L', ' */ evil() '); end$$",
    "select 'password ' || quote_literal(' evil() ')",
    "set app.secret = 'drop table t'",
    "set app.secret = evil(), 'x'",
    "update t set a.secret = evil(), b = 'x'",
    "do $$begin update t set a.secret = evil(); end$$",
    "alter role x set app.secret = 'drop table t'",
    "alter role x set app.secret = 'select evil()'",
    "alter database x set app.secret = 'select evil()'",
    "alter system set app.secret = evil()",
    "select set_config('a.secret', 'drop table t', true); do $$begin execute current_setting('a.secret'); end$$",
    "select set_config('a.secret', evil(), true)",
    "select pgp_sym_encrypt('x', 'drop table t')",
    "select pgp_sym_encrypt('x', query_to_xml('delete from t'))",
    "select pgp_sym_encrypt(' , ', evil(), ' ')",
    "select pgp_sym_encrypt('\\', ' , evil() , ', ' ')",
    "select hmac('x', (select evil()), 'y')",
    "select crypt $$(' , evil() , ')$$",
    "select 'crypt(' , evil() , ')'",
    'select "crypt""(\' ", evil(), \'"\'',
    "select u&\"crypt\\0022(' \", evil(), '\"'",
    "select set_config('a.secret', '-----BEGIN A-----\ndrop table t\n-----END A-----', true)",
    "set app.secret = 'drop/**/table/**/evil()'",
]
GLUED = ["drop/**/table/**/t", 'table"t"', "load'x'", "drop--\ntable--\nt", "drop'\n'table", "a;b", "f(x)", "a b"]
"""Code that needs no white space, or has it where nobody looks."""


@pytest.mark.parametrize("marked", GONE)
def test_secrets_go(marked: str) -> None:
    """Each way of writing a password, masked, and only it."""
    expected = re.sub("«.*?»", "***", marked, flags=re.DOTALL)
    masked, secrets, _ = mask(marked.replace("«", "").replace("»", ""))
    assert masked == expected
    assert len(secrets) == masked.count(MASK)


@pytest.mark.parametrize("sql", STAYS)
def test_the_rest_stays(sql: str) -> None:
    """The word alone makes no secret."""
    assert mask(sql) == (sql, (), ())


@pytest.mark.parametrize("lead", ["\x95".encode("latin-1"), "さ".encode(), b"\xe9"])
def test_a_backslash_that_is_half_a_letter(lead: bytes) -> None:
    """In SJIS and its like it can be a letter's second byte, and escapes nothing then: nobody here can tell.

    What stands behind a letter in an E'' string was read as the string's rest, and code behind it as a password.
    """
    hidden = b"select E'" + lead + b"\\', '; alter user x password ', evil(), ' ', '; alter user x password ',ssn,' '"
    masked = read_text(hidden)
    assert "evil()" in masked.sql
    assert ",ssn," in masked.sql
    plain = read_text(b"select '" + lead + b"\\'; alter user x password 'canary'")
    assert (plain.masked, "canary" in plain.sql) == (True, False)


@pytest.mark.parametrize("sql", HIDING)
def test_code_cannot_hide(sql: str) -> None:
    """What PostgreSQL would run is in the record."""
    masked = mask(sql)[0]
    for code in ("evil()", "drop table t", "delete from t"):
        assert (code in sql) == (code in masked)


@pytest.mark.parametrize("code", GLUED)
@pytest.mark.parametrize(
    "sql",
    [
        "set a.secret = {}",
        "select set_config('a.secret', {}, true)",
        "select pgp_sym_encrypt('x', {})",
        "select crypt({}, x)",
        "do $x$begin execute password {}; end$x$",
        "alter database d set a.secret to {}",
    ],
)
def test_what_could_be_run_stays(sql: str, code: str) -> None:
    """Wherever a secret's place can be one of code: a setting, a function that somebody has made under that name."""
    for literal in (plain(code), dollar(code)):
        text = sql.format(literal)
        assert mask(text)[0] == text


words = st.sampled_from(
    [
        *("select", "password", "PassWord", "e", "u&", "x", "create", "user", "a$b$c", "ünï", "://", "role", "set"),
        *("secret", "a.secret", "to", "local", "set_config", "crypt", "pgp_sym_encrypt", "hmac", "options", "alter"),
    ]
)
contents = st.text(alphabet="a'\\\"$ \n-/*;,()e:@=", max_size=12) | st.sampled_from(
    ["password", "password 'x'", "a password ", "set a.secret = ", "crypt('x', ", "a.secret"]
)


def plain(content: str) -> str:
    """A literal; without backslashes, so that it reads alike in either mode of strings."""
    return "'" + content.replace("\\", "").replace("'", "''") + "'"


def escaped(content: str) -> str:
    """An E'' literal."""
    return "E'" + content.replace("\\", "\\\\").replace("'", "\\'") + "'"


def dollar(content: str) -> str:
    """A dollar-quoted literal."""
    return "$Q$" + content.replace("$", "") + "$Q$"


def name(content: str) -> str:
    """A quoted name."""
    return '"' + content.replace('"', '""') + '"'


def block(content: str) -> str:
    """A comment that may nest."""
    return "/* /*" + content.replace("*", "").replace("/", "") + "*/ */"


def line(content: str) -> str:
    """A comment to the line's end."""
    return "-- " + content.replace("\n", "") + "\n"


def pieces() -> st.SearchStrategy[str]:
    """SQL tokens of all kinds, with hostile contents."""
    made = [st.builds(make, contents) for make in (plain, escaped, dollar, name, block, line)]
    return st.one_of(*made, words, st.sampled_from([*",()+-*/=<>.", "$1", "1e5", "\n"]))


@given(st.lists(pieces(), max_size=12), st.lists(pieces(), max_size=6), st.sampled_from([plain, escaped, dollar]))
def test_a_password_goes_whatever_stands_around(before: list[str], after: list[str], style: object) -> None:
    """Tokens of any kind before and behind: the password's literal is found, and nothing that could be code goes."""
    assert callable(style)
    secret = style("Zy x(Qw);w")
    head, tail = " ".join([*before, "; "]), " ".join(["", ";", *after])
    masked, was, _ = mask(f"{head}ALTER ROLE r PASSWORD {secret}{tail}")
    assert was
    assert "Zy x(Qw);w" not in masked
    assert f"ALTER ROLE r PASSWORD {secret.replace('Zy x(Qw);w', MASK)}" in masked
    assert only_literals_went(f"{head}ALTER ROLE r PASSWORD {secret}{tail}", masked)


@given(
    st.lists(pieces(), max_size=8),
    st.sampled_from(
        [
            "SET LOCAL app.secret = {}",
            "SELECT set_config('app.secret', {}, true)",
            "SELECT pgp_sym_decrypt(a, {})",
            'SELECT U&"crypt"({}, b)',
        ]
    ),
    st.lists(pieces(), max_size=8),
    st.sampled_from(["plain", "escaped", "dollar"]),
)
def test_a_key_goes_whatever_stands_around(before: list[str], sql: str, after: list[str], style: str) -> None:
    """As a password; and whatever stands there, nothing but literals go."""
    literal = {"plain": plain, "escaped": escaped, "dollar": dollar}[style]("Zy.xQw#w")
    text = " ".join([*before, "; ", sql.format(literal), "; ", *after])
    masked, _, _ = mask(text)
    assert "Zy.xQw#w" not in masked
    assert only_literals_went(text, masked)


@given(st.text(alphabet="passwordPASSWORD '\"\\$eE/*-;=()\n\0:@xu&", max_size=60))
def test_takes_anything(text: str) -> None:
    """Any text: never an exception, never a change outside a mask."""
    for sql in (
        text,
        f"password {text}",
        f"alter user x password '{text}",
        f"do $$ {text} password 'x' $$",
        f"set a.secret = {text}",
        f"select crypt({text}, set_config('a.secret', {text}",
    ):
        masked, was, _ = mask(sql)
        assert (masked != sql) <= bool(was)
        assert only_literals_went(sql, masked)


def test_work_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the tokens that it looks at, strings that go on over lines too, a statement is left as it is."""
    monkeypatch.setattr(tokens, "MOST_TOKENS", 10)
    assert mask("password 'x' " * 6)[0] == "password '***' " * 5 + "password 'x' "
    assert mask("alter user u password 'x" + "'\n'y" * 20 + "'")[0].count("y") == 14


@pytest.mark.parametrize(
    ("message", "secrets", "shown"),
    [
        ('syntax error at or near "\'hunter2\'"', ("hunter2",), 'syntax error at or near "\'***\'"'),
        ('missing "=" after "it\'s" in it', ("it''s",), 'missing "=" after "***" in it'),
        ('syntax error at or near "x"', ("x",), 'syntax error at or near "***"'),
        ('relation "xx" does not exist', ("x", "e"), 'relation "xx" does not exist'),
        ('a "secret1" and "secret"', ("secret", "secret1"), 'a "***" and "***"'),
        ("division by zero", ("(.*", "\\1"), "division by zero"),
    ],
)  # fmt: skip
def test_an_error_that_quotes_a_secret(message: str, secrets: tuple[str, ...], shown: str) -> None:
    """It goes, in both its forms; a short one only as a whole, so that the message can still be read."""
    assert hide(message, secrets) == shown


def only_literals_went(sql: str, masked: str) -> bool:
    """Whether all that is not a mask stands in `sql`, in order."""
    at = 0
    for part in masked.split(MASK):
        found = sql.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return True


@pytest.mark.parametrize(
    "sql",
    [
        "password '" + "''" * 500_000,
        "password 'a' " * 100_000,
        "select format('password " + "password %L " * 300_000 + "', 'a')",
        "select format('password %L" + "', 'password %L" * 100_000 + "', 'a')",
        "select 'password " + "x://a:b@ " * 500_000 + "'",
        "select 'password " + "x://a:" + "b" * 3_000_000 + "'",
        "select 'password" + " " * 3_000_000 + "' || 'password' || quote_literal(",
        "password 'x'; insert into t values " + "('a',12,'b''cd')," * 60_000,
        "password e'" + "\\'" * 500_000,
        "password 'x' " + "/* " * 300_000,
        "password 'x' " + "$a$ $b$ " * 120_000,
        "password 'x' '" + "a= " * 300_000 + "'",
        "password 'x' 'a=" + " " * 1_000_000 + "'",
        "password 'x'" + "--password\n" * 80_000,
        "password 'x'" + "://a" * 250_000,
        "password " + "''\n" * 300_000,
        "password 'x'\n" + "--\n" * 300_000,
        "password 'x\\'" + "'\\'" * 300_000,
        "password 'x' " + "create" + " " * 1_000_000,
        "alter user x password " + "'x'\n--\n" * 100_000,
        "select " + "crypt(" * 160_000,
        "select crypt(" + "'x', " * 200_000,
        "select set_config('a.secret', '" + "'\n'" * 300_000,
        "set a.secret = " + "x, " * 300_000,
        "set a.secret = 'x'; " + "set " * 250_000,
        "set " + "a." * 400_000 + "secret = 'x'",
        'set u&"' + "\\0061" * 150_000 + '" = 1',
        "select crypt('x', y)" + ' u&"a" uescape ' * 60_000,
        "select crypt('-----BEGIN A-----\n" + ("a" * 40 + "\n") * 25_000 + "',",
        "set a.secret = '" + "-" * 1_000_000 + "'",
    ],
    ids=lambda sql: f"{sql[:24]!r}",
)
def test_time_is_bounded(sql: str) -> None:
    """A megabyte made to be slow takes no longer than a bounded part of a second."""
    started = time.process_time()
    mask(sql)
    assert time.process_time() - started < 2
