"""OAUTHBEARER: the same token by SASL, the same refusals, and what RFC 7628 and PostgreSQL 18 want of the messages."""

import json
import os
import struct
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.contract.record import AuthRefused, SessionStart, decode
from proxy.pace import STEP_S
from tests.attack.forgeries import FORGERIES, Forgery
from tests.attack.opening import WHO
from tests.attack.test_tokens import REFUSED
from tests.clients import oauth
from tests.harness.certs import Authority, CertificateFiles
from tests.harness.ports import free_port
from tests.harness.postgres import Cluster
from tests.harness.processes import run
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.waiting import eventually
from tests.harness.wire import Message, Wire, message, startup
from tests.integration.edge.test_client_certificates import thumbprint

OFFER = struct.pack("!i", 10) + b"OAUTHBEARER\0\0"
OK = struct.pack("!i", 0)
METADATA = "https://control.test/.well-known/openid-configuration"
CHALLENGE = {"status": "invalid_token", "openid-configuration": METADATA, "scope": "curfew orders"}
ACKNOWLEDGED = message("p", b"\x01")
FEW = ("unknown key", "wrong key", "garbage", "60 kB", "empty", "expired", "of somebody else", "for another target")


@dataclass(frozen=True, slots=True)
class Door:
    """A proxy, and the port where it asks by OAUTHBEARER."""

    proxy: Proxy
    port: int


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs people's certificates."""
    return Authority(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def door(
    postgres: Cluster, ca: Authority, people: Authority, sockets: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Door]:
    """One with both ways, TCP and unix sockets, clear text on loopback allowed, and client certificates."""
    port = free_port()
    options = {
        "plaintext": "loopback",
        "tls_client_ca_file": str(people.file),
        "oauth": {"listen": [f"127.0.0.1:{port}", f"{sockets}:{port}"], "scope": "curfew orders"},
    }
    with Proxy(cluster=postgres, ca=ca, folder=tmp_path_factory.mktemp("oauth"), options=options) as proxy:
        yield Door(proxy, port)


@asynccontextmanager
async def asked(
    door: Door,
    *,
    unix: str = "",
    user: str = "dba1",
    database: str = "orders",
    certificate: CertificateFiles | None = None,
) -> AsyncIterator[Wire]:
    """A connection on which the token was asked for."""
    context = door.proxy.ca.client_context()
    if certificate is not None:
        context.load_cert_chain(certificate.certificate, certificate.key)
    wire = await (Wire.unix(unix) if unix else Wire.tls(door.port, context))
    async with wire:
        wire.send(startup(("user", user), ("database", database)))
        offer = await wire.read()
        assert (offer.kind, offer.body) == ("R", OFFER)
        yield wire


def sasl(response: bytes, mechanism: bytes = b"OAUTHBEARER", length: int | None = None) -> bytes:
    """A SASLInitialResponse."""
    size = len(response) if length is None else length
    return message("p", mechanism + b"\0" + struct.pack("!i", size) + response)


def bearer(token: str) -> bytes:
    """One with a token, as libpq has it."""
    return sasl(first(f"Bearer {token}".encode()))


def first(auth: bytes) -> bytes:
    """The client's first message."""
    return b"n,,\x01auth=" + auth + b"\x01\x01"


def assert_challenged(said: Message) -> None:
    """The one answer to no token and to every bad one."""
    assert said.kind == "R"
    assert said.body[:4] == struct.pack("!i", 11)
    assert json.loads(said.body[4:]) == CHALLENGE


# Who is let in.


async def test_a_good_token(door: Door) -> None:
    """In, and recorded like everybody."""
    grant = new_grant_id()
    async with asked(door) as wire:
        wire.send(bearer(door.proxy.token(id=grant)))
        said = await wire.until("Z")
        assert [one.body for one in said if one.kind == "R"] == [OK]
        assert await wire.value("SELECT current_user") == "curfew_app"
        wire.close()
    lines = await door.proxy.session_of(grant)
    assert isinstance(decode(lines[0]), SessionStart)


@pytest.mark.parametrize(
    "form",
    [
        b"n,,\x01auth=Bearer %b\x01\x01",
        b"y,,\x01auth=Bearer %b\x01\x01",
        b"n,,\x01auth=bEARER   %b\x01\x01",
        b"n,,\x01host=localhost\x01port=5432\x01auth=Bearer %b\x01\x01",
        b"n,,\x01auth=Bearer %b\x01mthd=\x01what=not, is this\x01\x01",
    ],
    ids=["libpq's", "y", "another case", "with host and port", "with keys that nobody knows"],
)
async def test_forms_of_the_first_response(door: Door, form: bytes) -> None:
    """What the RFC allows and PostgreSQL takes."""
    async with asked(door) as wire:
        wire.send(sasl(form % door.proxy.token().encode()))
        await wire.until("Z")


async def test_no_initial_response(door: Door) -> None:
    """A client may name the mechanism alone and wait to be asked (RFC 4422, 3.3)."""
    async with asked(door) as wire:
        wire.send(sasl(b"", length=-1))
        assert (await wire.read()).body == struct.pack("!i", 11)
        wire.send(message("p", first(b"Bearer " + door.proxy.token().encode())))
        await wire.until("Z")


async def test_on_a_unix_socket(door: Door, sockets: Path) -> None:
    """There is no wire to listen on."""
    async with asked(door, unix=f"{sockets}/.s.PGSQL.{door.port}") as wire:
        wire.send(bearer(door.proxy.token()))
        await wire.until("Z")


async def test_never_in_clear(door: Door) -> None:
    """Also where clear text is allowed for passwords: a bearer token is for TLS alone (RFC 7628, section 4)."""
    async with await Wire.plain(door.port) as wire:
        wire.send(startup(*WHO))
        (told,) = await wire.rest()
        assert (told.kind, told.fields["C"]) == ("E", "28000")
    async with await Wire.plain(door.proxy.port) as wire:
        wire.send(startup(*WHO))
        assert (await wire.read()).body == struct.pack("!i", 3)


async def test_a_token_that_is_bound_to_a_certificate(door: Door, people: Authority) -> None:
    """Of use to who shows that certificate, and to nobody else."""
    mine = people.client("dba1", stem="mine")
    token = door.proxy.token(certificate=thumbprint(mine))
    async with asked(door, certificate=mine) as wire:
        wire.send(bearer(token))
        await wire.until("Z")
    async with asked(door) as wire:
        wire.send(bearer(token) + ACKNOWLEDGED)
        await wire.until("E")


# Who is not.


async def test_discovery(door: Door) -> None:
    """A client without a token is told where tokens come from, and comes again. That is no refusal."""
    before = sum(count for name, count in door.proxy.metrics().items() if name.startswith("curfew_refused"))
    async with asked(door) as wire:
        wire.send(sasl(first(b"")))
        assert_challenged(await wire.read())
        wire.send(ACKNOWLEDGED)
        (told,) = await wire.rest()
    assert (told.fields["C"], told.fields["V"], told.fields["M"]) == ("28000", "FATAL", "no token was given")
    assert "curfew request" in told.fields["H"]
    after = sum(count for name, count in door.proxy.metrics().items() if name.startswith("curfew_refused"))
    assert after == before


@pytest.mark.parametrize("forgery", [one for one in FORGERIES if one.name in FEW], ids=lambda forgery: forgery.name)
async def test_refused(door: Door, forgery: Forgery) -> None:
    """The same words as behind a password, not before the same time, counted and recorded as there."""
    proxy = door.proxy
    counted = f'curfew_refused_total{{refusal="{forgery.refusal}"}}'
    refusals = proxy.metrics().get(counted, 0)
    records = sum(isinstance(one, AuthRefused) for one in proxy.records())
    response = bearer(forgery.make(proxy.signer))
    async with asked(door, user=forgery.user, database=forgery.database) as wire:
        before = time.perf_counter()
        wire.send(response)
        assert_challenged(await wire.read())
        assert time.perf_counter() - before > STEP_S - 0.002
        wire.send(ACKNOWLEDGED)
        (told,) = await wire.rest()
    assert told.fields == REFUSED
    assert proxy.metrics()[counted] == refusals + 1
    assert sum(isinstance(one, AuthRefused) for one in proxy.records()) == records + forgery.recorded


@pytest.mark.parametrize("auth", [b"Basic ZGJhMTp4", b"Bearer", b"Bearer ", b"Bearer a b", b"Bearer a=b", b" Bearer a"])
async def test_values_that_are_no_token(door: Door, auth: bytes) -> None:
    """Refused like any bad token."""
    async with asked(door) as wire:
        wire.send(sasl(first(auth)) + ACKNOWLEDGED)
        challenged, told = await wire.rest()
    assert_challenged(challenged)
    assert told.fields == REFUSED


@pytest.mark.parametrize(
    "reply", [b"", message("p", b""), message("p", b"\x01more"), message("Q", b"SELECT 1\0"), b"p\xff\xff\xff\xff"]
)
async def test_a_refusal_that_is_not_acknowledged(door: Door, reply: bytes) -> None:
    """Whatever a client makes of it, or nothing and the end of its stream, it stays refused."""
    async with asked(door) as wire:
        wire.send(bearer("garbage"))
        assert_challenged(await wire.read())
        wire.send(reply)
        if not reply:
            wire.close()
            return
        (told,) = await wire.rest()
        assert told.fields == REFUSED
    await eventually(lambda: door.proxy.metrics()["curfew_unauthenticated"] == 0)


GOOD = first(b"Bearer x")
MALFORMED: dict[str, bytes] = {
    "another mechanism": sasl(GOOD, b"SCRAM-SHA-256"),
    "another case": sasl(GOOD, b"oauthbearer"),
    "a password": message("p", b"x\0"),
    "no length": message("p", b"OAUTHBEARER\0"),
    "nothing": message("p"),
    "a longer length": sasl(GOOD, length=len(GOOD) + 1),
    "a shorter length": sasl(GOOD, length=len(GOOD) - 1),
    "a negative length": sasl(GOOD, length=-1),
    "another negative length": sasl(b"", length=-2),
    "an empty response": sasl(b""),
    "channel binding": sasl(GOOD.replace(b"n,,", b"p=tls-server-end-point,,")),
    "an authzid": sasl(GOOD.replace(b"n,,", b"n,a=dba1,")),
    "no header": sasl(GOOD[3:]),
    "no pairs": sasl(b"n,,\x01\x01"),
    "no auth": sasl(GOOD.replace(b"auth", b"authx")),
    "two": sasl(GOOD.replace(b"\x01\x01", b"\x01auth=Bearer y\x01\x01")),
    "no end": sasl(GOOD[:-1]),
    "more behind the end": sasl(GOOD + b"x"),
    "a NUL": sasl(GOOD.replace(b"x\x01", b"x\0\x01")),
    "beyond ASCII": sasl(GOOD.replace(b"x\x01", b"\xc3\xa4\x01")),
    "no key": sasl(GOOD.replace(b"auth", b"")),
    "a Query": message("Q", b"SELECT 1\0"),
    "64 kB": sasl(first(b"Bearer " + b"x" * 66_000)),
    "2 GB": b"p\x7f\xff\xff\xff",
    "nothing asked for, nothing said": sasl(b"", length=-1) + message("p"),
    "a token behind discovery": sasl(first(b"")) + message("p", first(b"Bearer x")),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
async def test_malformed(door: Door, data: bytes) -> None:
    """Not what RFC 7628 says: the end, and no token was looked at."""
    async with asked(door) as wire:
        wire.send(data)
        told = (await wire.rest())[-1]
    assert (told.fields["V"], told.fields["C"]) == ("FATAL", "08P01")


async def test_tokens_are_not_logged(door: Door) -> None:
    """Neither good nor bad ones."""
    good, bad = door.proxy.token(), door.proxy.token(target="payroll")
    async with asked(door) as wire:
        wire.send(bearer(good))
        await wire.until("Z")
    async with asked(door) as wire:
        wire.send(bearer(bad) + ACKNOWLEDGED)
        await wire.rest()
    written = door.proxy.log().encode() + b"".join(door.proxy.lines())
    assert b"access refused" in written
    for token in (good, bad):
        assert [part for part in token.split(".") if part.encode() in written] == []


# libpq 18.


@pytest.mark.parametrize("token", ["good", "bad"])
def test_libpq(door: Door, token: str) -> None:
    """Psycopg with a hook for the token: discovery, then a connection with what the hook said; a refusal in full."""
    conninfo = (
        f"host=localhost hostaddr=127.0.0.1 port={door.port} user=dba1 dbname=orders sslmode=verify-full"
        f" sslrootcert={door.proxy.ca.file} require_auth=oauth oauth_issuer=https://control.test oauth_client_id=any"
    )
    tokens = {"good": door.proxy.token(), "bad": door.proxy.token(person="dba2")}
    environment = {**os.environ, "TOKEN": tokens[token]}
    done = run([sys.executable, oauth.__file__, conninfo], environment=environment)
    told = json.loads(done.stdout)
    assert told["asked"] == [{"openid_configuration": METADATA, "scope": "curfew orders"}]
    if token == "good":
        assert (told["said"], told["error"]) == (["curfew_app"], None)
    else:
        assert told["said"] is None
        assert f"FATAL:  {REFUSED['M']}\nHINT:  {REFUSED['H']}" in told["error"]
