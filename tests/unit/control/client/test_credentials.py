"""A token reaches libpq unchanged in every form: libpq itself reads them here (the one that psycopg ships)."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import pq

from control.client import credentials
from control.client.answers import Token, read
from control.client.credentials import Format
from control.client.errors import ClientError

NASTY = "a'b\"c\\d:e f$g`h%i?j&k=l#m@n/o[p;q*r!s~üé{}|<>()"
printable = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=40)


def token(**changes: object) -> Token:
    """A token with changes."""
    plain: dict[str, object] = {
        "token": "eyJh.eyJp.sig-_",
        "grant": "grt_1",
        "user": "dba1",
        "dbname": "orders",
        "host": "db.example",
        "port": 6432,
    }
    return read(Token, plain | changes)


def parsed(conninfo: str) -> dict[str, str]:
    """What libpq makes of a connection string or URI."""
    options = pq.Conninfo.parse(conninfo.encode())
    return {o.keyword.decode(): o.val.decode() for o in options if o.val is not None}


def in_a_shell(line: str, *show: str) -> list[str]:
    """What a POSIX shell makes of a line: the words that `show` expands to behind it."""
    script = f"{line}\nprintf '%s\\0' {' '.join(show)}"
    output = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True, env={}).stdout
    return output.decode().split("\0")[:-1]


@given(user=printable, database=printable, password=printable, cert=printable)
def test_a_uri_says_to_libpq_what_was_meant(user: str, database: str, password: str, cert: str) -> None:
    """Percent-encoding: libpq decodes every part to the value itself."""
    uri = credentials.write(token(user=user, token=password), Format.URI, database=database, sslrootcert=cert)
    values = parsed(uri)
    assert (values["user"], values["dbname"], values["password"]) == (user, database, password)
    assert (values["host"], values["port"]) == ("db.example", "6432")
    assert (values["sslmode"], values["sslrootcert"]) == ("verify-full", cert)


@pytest.mark.parametrize("host", ["::1", "fe80::1%eth0", "/run/postgresql", "10.0.0.1"])
def test_a_uri_holds_addresses_and_folders(host: str) -> None:
    """IPv6 stands in brackets, a socket's folder is encoded."""
    uri = credentials.write(token(host=host), Format.URI, database="orders", sslrootcert=None)
    assert parsed(uri)["host"] == host
    assert "sslrootcert" not in uri


@given(user=printable, database=printable, password=printable)
def test_connection_strings_are_quoted(user: str, database: str, password: str) -> None:
    """What `psql` would be given as its argument, after the shell's own reading, is read by libpq as meant."""
    line = credentials.write(token(user=user, token=password), Format.PSQL, database=database, sslrootcert="/a b/c.pem")
    assignment, command, argument = shlex.split(line)
    assert (assignment, command) == (f"PGPASSWORD={password}", "psql")
    values = parsed(argument)
    assert (values["user"], values["dbname"], values["sslrootcert"]) == (user, database, "/a b/c.pem")
    assert "password" not in values


def test_a_psql_line_survives_a_real_shell() -> None:
    """No character of a value is the shell's, and the token is no argument."""
    line = credentials.write(token(user=NASTY, token=NASTY), Format.PSQL, database=NASTY, sslrootcert=None)
    shown = in_a_shell(line.replace(" psql ", " ; set -- "), '"$PGPASSWORD"', '"$@"')
    assert shown[0] == NASTY
    assert parsed(shown[1])["dbname"] == NASTY


def test_env_survives_a_real_shell() -> None:
    """Each variable has its value, whatever characters are in it."""
    text = credentials.write(token(user=NASTY, token=NASTY), Format.ENV, database="orders/shop", sslrootcert="/a b.pem")
    names = ("PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD", "PGSSLMODE", "PGSSLROOTCERT")
    shown = in_a_shell(text, *(f'"${name}"' for name in names))
    assert shown == ["db.example", "6432", NASTY, "orders/shop", NASTY, "verify-full", "/a b.pem"]


@given(user=printable, database=printable.filter(lambda d: "]" not in d))
def test_a_service_is_read_by_libpq(user: str, database: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A section of a service file: values to the end of their line, unquoted; the longest token fits."""
    file = tmp_path_factory.mktemp("service") / "pg_service.conf"
    password = "t" * 1_000
    text = credentials.write(
        token(user=user, token=password), Format.SERVICE, database=database, sslrootcert="/a b/c.pem"
    )
    file.write_text(text + "\n")
    values = service(file, database)
    assert (values["user"], values["dbname"], values["password"]) == (user, database, password)
    assert (values["host"], values["sslmode"], values["sslrootcert"]) == ("db.example", "verify-full", "/a b/c.pem")


def service(file: Path, name: str) -> dict[str, str]:
    """What libpq takes for its defaults with this service named in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in [v for v in os.environ if v.startswith("PG")]:
            patch.delenv(variable)
        patch.setenv("PGSERVICEFILE", str(file))
        patch.setenv("PGSERVICE", name)
        return {o.keyword.decode(): o.val.decode() for o in pq.Conninfo.get_defaults() if o.val is not None}


@pytest.mark.parametrize(("database", "root"), [("a]b", None), ("orders", "/a "), ("orders", "/" + "a" * 1_023)])
def test_what_a_service_file_cannot_hold_is_refused(database: str, root: str | None) -> None:
    """Better no section than one that libpq reads otherwise."""
    with pytest.raises(ClientError, match=r"service"):
        credentials.write(token(), Format.SERVICE, database=database, sslrootcert=root)


def test_pgpass_fields_are_escaped() -> None:
    """Colons and backslashes are escaped, nothing else is."""
    text = credentials.write(token(user="a:b\\c", host="::1"), Format.PGPASS, database="orders/x", sslrootcert=None)
    assert text == "\\:\\:1:6432:orders/x:a\\:b\\\\c:eyJh.eyJp.sig-_"


def test_raw_is_the_token_alone() -> None:
    """For programs that put it where they want."""
    assert credentials.write(token(), Format.RAW, database="orders", sslrootcert=None) == "eyJh.eyJp.sig-_"


@pytest.mark.parametrize("form", list(Format))
@pytest.mark.parametrize("bad", ["a\nb", "a\0b", "\x1b[2J", "", "a\u2028b"])
def test_a_value_with_control_characters_is_refused(form: Format, bad: str) -> None:
    """A newline would start a line of its own in any of these files."""
    with pytest.raises(ClientError, match="characters"):
        credentials.write(token(token=bad), form, database="orders", sslrootcert=None)


def test_a_token_is_not_in_its_repr() -> None:
    """A repr ends up in logs and messages."""
    assert "eyJh" not in repr(token())
