"""A connection's first bytes, as the proxy reads them: PROXY header, requests, ClientHello, StartupMessage, password.

Whatever they are, it is a result or one of the documented errors, with a SQLSTATE of PostgreSQL's. A StartupMessage
that is taken has the parameters of a naive reader, and goes on byte for byte; a name in a ClientHello is the one that
OpenSSL reads; a token is refused where it was not signed, and else means what its claims say.
"""

import json
import ssl
import struct
from contextlib import suppress
from random import Random

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy.contract.token import KeySet, TokenRefusedError, VerifyingKey, verify
from proxy.wire import proxy_header, startup
from proxy.wire.client_hello import parse_client_hello
from proxy.wire.messages import cancel_request, startup_message
from tests.fuzz.mutations import mutate_bytes

SQLSTATES = {"08P01", "0A000", "22023", "28000"}
REQUESTS = (struct.pack("!ii", 8, 80_877_103), struct.pack("!ii", 8, 80_877_104))
CLAIMS = {
    "iss": "https://control.test",
    "aud": "curfew",
    "sub": "dba1",
    "jti": "grt_1",
    "iat": 1_000,
    "nbf": 1_000,
    "exp": 9_000,
    "tgt": "orders",
    "dbs": ["*"],
    "acs": "readonly",
}
NOW = 5_000.0
LONGEST_PACKET = 10_004
"""MAX_STARTUP_PACKET_LENGTH of PostgreSQL's pqcomm.h, and the length word."""
DICTIONARY = (
    *REQUESTS,
    *(struct.pack("!ii", length, 0x30000) for length in (7, 8, LONGEST_PACKET, LONGEST_PACKET + 1, -1)),
    *(struct.pack("!i", version) for version in (0x30000, 0x30002, 0x3270F, 0x20000, 80_877_102)),
    *(b"user\0", b"database\0", b"replication\0", b"options\0", b"_pq_.x\0", b"true\0", b"\0\0", b"-c a=b\0"),
    proxy_header.SIGNATURE + b"\x21\x11\0\x0c",
    proxy_header.SIGNATURE + b"\x21\x21\0\x24",
    proxy_header.SIGNATURE + b"\x20\0\0\0",
    *(f'"{name}":{json.dumps(value)},'.encode() for name, value in CLAIMS.items()),
    *(
        b'"ips":["10.0.0.0/8"],',
        b'"max":1,',
        b'"end":"hard",',
        b'"cnf":{"x5t#S256":"x"},',
        b'"v":1,',
        b"1e999",
        b"null",
    ),
    *(b"\0\0", b"\0\x10", b"\0\x0d\0\x0b\x0apostgresql", b"\0\x0e\0\x0c\0\0\x09localhost"),
)

_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
_KEYS = KeySet([VerifyingKey(kid="k", algorithm="EdDSA", key=_KEY.public_key())])


def check(data: bytes) -> None:
    """Read `data` as one socket's bytes."""
    if data[:1] == proxy_header.SIGNATURE[:1]:
        data = _proxy_header(data)
    if data[:1] == bytes([startup.TLS_FIRST_BYTE]):
        _client_hello(data)
        return
    while data[:8] in REQUESTS:
        assert isinstance(startup.classify(data[:8]), startup.SslRequest | startup.GssRequest)
        data = data[8:]
    if len(data) >= startup.FIRST_BYTES:
        _first_packet(data)


def mutate(data: bytes, random: Random) -> bytes:
    """Change some bytes; more often than not the packet's length is right again afterwards."""
    data = mutate_bytes(data, random, DICTIONARY)
    at = 8 if data[:8] in REQUESTS else 0
    terminated = data.rfind(b"\0\0") + 2
    if random.random() < 0.5 and terminated > at + 8:
        data = data[:at] + struct.pack("!i", terminated - at) + data[at + 4 :]
    return data


def _proxy_header(data: bytes) -> bytes:
    """What follows the header."""
    first, rest = data[: proxy_header.FIRST_BYTES], data[proxy_header.FIRST_BYTES :]
    if len(first) < proxy_header.FIRST_BYTES:
        return b""
    try:
        start = proxy_header.parse_start(first)
    except proxy_header.HeaderError:
        return b""
    assert start.rest <= proxy_header.MAX_REST_BYTES
    if len(rest) >= start.rest:
        address = proxy_header.parse_source(start, rest[: start.rest])
        assert (address is None) == (first[12] & 0xF == 0), "only the load balancer's own connections have no source"
    return rest[start.rest :]


def _first_packet(data: bytes) -> None:
    try:
        first = startup.classify(data[: startup.FIRST_BYTES])
    except startup.StartupError as error:
        assert error.sqlstate in SQLSTATES
        return
    if isinstance(first, startup.SslRequest | startup.GssRequest):
        return
    assert startup.FIRST_BYTES <= first.length <= LONGEST_PACKET
    if len(data) < first.length:
        return
    body = data[startup.FIRST_BYTES : first.length]
    if isinstance(first, startup.CancelRequest):
        pid, secret = startup.parse_cancel(body)
        assert cancel_request(pid, secret) == data[: first.length]
        return
    try:
        asked = startup.parse_startup(body, first.version)
    except startup.StartupError as error:
        assert error.sqlstate in SQLSTATES
        return
    _as_a_naive_reader(body, asked)
    _password(data[first.length :])


def _as_a_naive_reader(body: bytes, asked: startup.StartupMessage) -> None:
    fields = body[:-1].split(b"\0")[:-1]  # What the last byte is, PostgreSQL does not look at either.
    pairs = list(zip(fields[::2], fields[1::2], strict=True))
    assert all(name for name, _ in pairs)
    known = {name: value for name, value in pairs if not name.startswith(b"_pq_.")}
    assert dict(asked.parameters) == known
    assert len(asked.parameters) == len(known)
    assert list(asked.unknown_options) == [name for name, _ in pairs if name.startswith(b"_pq_.")]
    assert asked.user.encode() == known[b"user"] != b""
    assert asked.database.encode() == (known.get(b"database") or known[b"user"])
    assert asked.replication is None or b"replication" in known
    again = startup_message(asked.parameters, asked.version)
    assert startup.parse_startup(again[8:], asked.version).parameters == asked.parameters


def _password(data: bytes) -> None:
    if len(data) < 5:
        return
    try:
        text = startup.parse_password(data[0], data[5 : 1 + int.from_bytes(data[1:5])])
    except startup.StartupError as error:
        assert error.sqlstate == "08P01"
        return
    assert data[:1] == b"p"
    assert "\0" not in text
    _verify(text, signed=False)
    if text.startswith("{"):
        headers = {"typ": "grant+jwt", "kid": "k"}
        _verify(jwt.PyJWS().encode(text.encode(), _KEY, algorithm="EdDSA", headers=headers), signed=True, claims=text)


def _verify(token: str, *, signed: bool, claims: str = "") -> None:
    try:
        grant = verify(token, keys=_KEYS, issuer="https://control.test", audience="curfew", now=NOW)
    except TokenRefusedError as error:
        assert signed or error.grant_id is None, "what nobody signed names no grant"
        return
    said = json.loads(claims)
    assert signed
    assert (grant.id, grant.person, grant.target, grant.profile) == tuple(
        said[one] for one in ("jti", "sub", "tgt", "acs")
    )
    assert grant.expires_at == said["exp"] > NOW >= said["nbf"] - 2
    assert said["iss"] == "https://control.test"


def _client_hello(data: bytes) -> None:
    record = data[: 5 + int.from_bytes(data[3:5])]
    ours = parse_client_hello(record)
    if not ours.name.isascii():
        return  # Python complains of it on standard error.
    _named.clear()
    incoming = ssl.MemoryBIO()
    incoming.write(record)
    with suppress(ssl.SSLError):
        _SERVER.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True).do_handshake()
    assert _named in ([], [ours.name]), "the certificate is chosen by the name that TLS goes by"


_named: list[str] = []
"""The names that OpenSSL has read."""


def _note(_sock: object, name: str | None, _context: object) -> int:
    _named.append(name or "")
    return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME


_SERVER = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
_SERVER.sni_callback = _note
