"""The command where there is no control service: usage, words for every failure, and what works offline."""

import asyncio
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from psycopg import pq

from control.client import credentials
from control.client.answers import Token
from control.client.credentials import Format
from proxy.contract import proof
from proxy.contract.record import AuthRefused, Chain, SessionEnd, StatementEnd, StatementStart
from tests.harness.certs import Authority
from tests.harness.ports import free_port
from tests.integration.client.person import Person

KEY = "cfk_one_secret"
NASTY = "a:b\\c'd e:\\\\:"


def logged_in(url: str) -> dict[str, str]:
    """The environment of somebody with a key for `url`."""
    return {"CURFEW_URL": url, "CURFEW_API_KEY": KEY}


def test_usage_is_exit_code_2(person: Person) -> None:
    """Unknown commands, missing and impossible values."""
    for arguments in (["nonsense"], ["request", "a", "b"], ["approve", "x", "--for", "5"], ["grants", "--state", "x"]):
        done = person.run(*arguments)
        assert done.returncode == 2, arguments
        assert "Traceback" not in done.stderr
    for excluded in (("--speed", "2", "--instant"), ("--follow", "--max-gap", "1"), ("--json", "--errors")):
        assert person.run("replay", "x", *excluded).returncode == 2, excluded


def test_help_and_version_need_no_service(person: Person) -> None:
    """And every command has a help."""
    listed = person.ok("--help").partition("Commands:")[2].split("\n")
    names = [line.split()[0] for line in listed if line.startswith("  ") and not line.startswith("   ")]
    assert {"login", "connect", "replay", "verify"} <= set(names)
    for name in names:
        assert "Usage: curfew" in person.ok(name, "--help")
    assert person.ok("--version").startswith("curfew ")


def test_without_a_login_it_says_how_to_log_in(person: Person) -> None:
    """The first thing that a newcomer sees."""
    said = person.refused("grants")
    assert said.startswith("curfew: you are not logged in\n")
    assert "curfew login --url" in said


def test_nothing_listening_is_told_in_words(person: Person) -> None:
    """Not a stack of exceptions."""
    said = person.refused("grants", **logged_in(f"http://127.0.0.1:{free_port()}"))
    assert "nothing answers at 127.0.0.1:" in said
    assert KEY not in said


async def test_a_certificate_that_is_not_trusted_is_told_in_words(person: Person, ca: Authority) -> None:
    """What is wrong with it, and how to name the authority; with the authority named, the connection stands."""
    context = ca.server_context("localhost", stem="client-test")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        untrusted = await asyncio.to_thread(person.refused, "grants", **logged_in(f"https://localhost:{port}"))
        trusting = logged_in(f"https://127.0.0.1:{port}") | {"CURFEW_CA_FILE": str(ca.file)}
        wrong_name = await asyncio.to_thread(person.refused, "grants", **trusting)
        trusting["CURFEW_URL"] = f"https://localhost:{port}"
        right = await asyncio.to_thread(person.refused, "grants", **trusting)
    assert "is not to be trusted" in untrusted
    assert "CURFEW_CA_FILE" in untrusted
    assert "127.0.0.1" in wrong_name
    assert "is not to be trusted" in wrong_name
    assert "HTTP status 401" in right
    assert "curfew login" in right


async def test_a_port_without_tls_is_told_in_words(person: Person) -> None:
    """https:// to something that speaks plain text."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        said = await asyncio.to_thread(person.refused, "grants", **logged_in(f"https://127.0.0.1:{port}"))
    assert "does not speak TLS" in said


@pytest.mark.parametrize("content", [None, "not PEM"])
def test_a_ca_file_that_will_not_do_is_told_in_words(person: Person, content: str | None) -> None:
    """Missing, or something else."""
    file = person.home / "ca.pem"
    if content is not None:
        file.write_text(content)
    said = person.refused("grants", **logged_in("https://localhost:1"), CURFEW_CA_FILE=str(file))
    assert f"cannot use the CA file {file}" in said


@pytest.mark.parametrize("database", ["orders", "orders/shop", NASTY])
def test_libpq_finds_the_password_in_a_pgpass_line(person: Person, database: str) -> None:
    """The real libpq reads the file, as it does for psql; it asks for nothing but to know the password."""
    token = Token(token=NASTY, grant="grt_1", user=NASTY, dbname="orders", host="127.0.0.1", port=1)
    file = person.home / "pgpass"
    file.touch(mode=0o600)
    file.write_text(credentials.write(token, Format.PGPASS, database=database, sslrootcert=None) + "\n")

    def quoted(value: str) -> str:
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"

    wanted = f"host=127.0.0.1 port=1 passfile={file} user={quoted(NASTY)} dbname={quoted(database)}"
    connection = pq.PGconn.connect_start(wanted.encode())
    try:
        assert connection.password == NASTY.encode()
    finally:
        connection.finish()


def recorded(folder: Path, key: Ed25519PrivateKey) -> Path:
    """A file with two sessions: one with a statement, one that was refused."""
    one, two = Chain("ses_1"), Chain("ses_2")
    lines = [
        two.seal_signed(AuthRefused(refusal="expired", user="x", database="orders"), key),
        one.seal(StatementStart(statement=1, kind="query", sql="SELECT 'secret'", state="I", transaction=1)),
        one.seal(StatementEnd(statement=1, duration=5)),
        one.seal_signed(
            SessionEnd(reason="closed", decided_at=4, outcome="nothing open", statements=1, bytes_in=1, bytes_out=2),
            key,
        ),
    ]
    file = folder / "records.ndjson"
    file.write_bytes(b"".join(line + b"\n" for line in lines))
    return file


def test_a_file_is_verified_offline(person: Person) -> None:
    """With the key the signature counts, without it the answer says that it was not looked at."""
    key = Ed25519PrivateKey.generate()
    file = recorded(person.home, key)
    public = proof.public_text(key.public_key())
    said = person.ok("verify", str(file), "--public-key", public)
    assert "ok: session ses_1: 3 records, 1 statement, chain whole, signed by its proxy" in said
    assert "ok: session ses_2: a refused connection, signed by its proxy" in said
    unchecked = person.ok("verify", str(file)).splitlines()
    assert [line.split(": ")[1] for line in unchecked if "signature NOT checked" in line] == [
        "session ses_2",
        "session ses_1",
    ]


def test_an_edited_file_is_found_out(person: Person) -> None:
    """The first bad record is named, and the exit code is 1."""
    key = Ed25519PrivateKey.generate()
    file = recorded(person.home, key)
    file.write_bytes(file.read_bytes().replace(b"secret", b"public"))
    done = person.run("verify", str(file), "--public-key", proof.public_text(key.public_key()))
    assert done.returncode == 1
    assert "BAD: session ses_1, record 1: the record before it was changed" in done.stdout
    other = proof.public_text(Ed25519PrivateKey.generate().public_key())
    assert "BAD" in person.run("verify", str(recorded(person.home, key)), "--public-key", other).stdout
