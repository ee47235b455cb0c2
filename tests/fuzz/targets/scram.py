"""Our login to a PostgreSQL that is hostile: what it may say until ReadyForQuery, SCRAM above all.

It ends in a backend or in UpstreamError. It never has us send the password in clear without TLS that was verified, nor
twice, nor a SCRAM proof for fewer iterations than RFC 7677 has; and there is no backend unless the server has proved,
by a signature that this module works out for itself, that it knows the password.

An input is a byte of options, then messages: type, two bytes of length, body. In a body `{nonce}` stands for our
nonce, and `{proof}` for the signature that the server would have to give.
"""

import base64
import hashlib
import hmac
import ssl
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from random import Random
from typing import Any, Literal, TypeVar, cast

from proxy.authentication import Authentication, Terms
from proxy.contract.settings import Method
from proxy.dial import Server, UpstreamError
from proxy.errors import ClientGone, ProtocolViolation
from proxy.leg import Leg
from proxy.login import MAX_ANNOUNCEMENT_BYTES, MAX_MESSAGE_BYTES, Login
from proxy.scram import MAX_ITERATIONS, MIN_ITERATIONS, KeyCache, Keys
from proxy.wire.messages import sanitise
from tests.fuzz.mutations import mutate_bytes
from tests.harness.certs import Authority

T = TypeVar("T")
PASSWORD = "canary-of-the-login"
METHODS: tuple[tuple[Method, ...], ...] = (("scram-sha-256",), ("scram-sha-256", "md5"), ("password",), ("none",))
BINDINGS: tuple[Literal["disable", "prefer", "require"], ...] = ("disable", "prefer", "require")
MESSAGES = (
    (b"R", b"\0\0\0\0"),
    (b"R", b"\0\0\0\3"),
    (b"R", b"\0\0\0\5salt"),
    (b"R", b"\0\0\0\x0aSCRAM-SHA-256\0\0"),
    (b"R", b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"),
    (b"R", b"\0\0\0\x0br={nonce}x,s=c2FsdA==,i=4096"),
    (b"R", b"\0\0\0\x0cv={proof}"),
    (b"R", b"\0\0\0\x0cv=" + bytes(43).replace(b"\0", b"A") + b"="),
    (b"S", b"TimeZone\0UTC\0"),
    (b"N", b"SNOTICE\0C00000\0Mhello\0\0"),
    (b"E", b"SFATAL\0VFATAL\0C28P01\0Mno\0\0"),
    (b"K", b"\0\0\0\1abcd"),
    (b"K", b"\0\0\0\1" + bytes(32)),
    (b"v", b"\0\3\0\0\0\0\0\0"),
    (b"Z", b"I"),
)
DICTIONARY = tuple(b"%b%b%b" % (kind, len(body).to_bytes(2), body) for kind, body in MESSAGES)


class _Derived(KeyCache):
    """Keys of one iteration, whatever is asked for: the thousands are PBKDF2's to try."""

    async def keys(self, password: bytes, salt: bytes, iterations: int) -> Keys:
        """Derive them anew."""
        assert MIN_ITERATIONS <= iterations <= MAX_ITERATIONS
        salted = hashlib.pbkdf2_hmac("sha256", password, salt, 1)
        return Keys(client=_hmac(salted, b"Client Key"), server=_hmac(salted, b"Server Key"))


class _Server:
    """The hostile server, in the place of a leg: a list of messages, and ears for what we send."""

    def __init__(self, script: bytes, tls: ssl.SSLObject | None) -> None:
        certificate = None if tls is None else tls.getpeercert(binary_form=True)
        self._binding = b"" if certificate is None else hashlib.sha256(certificate).digest()
        self._script = script
        self._header = b""
        self._nonce = b""
        self._first = b""
        self.sent: list[bytes] = []
        self.signature = b""
        """What a server that knows the password would sign our last message with."""
        self.asked = b""
        """Its own server-first-message."""
        self.proved = False

    async def read(self, limit: int) -> tuple[int, bytes]:
        """The next message, as `Leg.read`."""
        if len(self._script) < 3:
            raise ClientGone
        kind, size = self._script[0], int.from_bytes(self._script[1:3])
        body = self._script[3 : 3 + size].replace(b"{nonce}", self._nonce).replace(b"{proof}", self.signature)
        self._script = self._script[3 + size :]
        if len(body) > limit:
            raise ProtocolViolation
        if kind == ord("R") and body[:4] == b"\0\0\0\x0b":
            self.asked = body[4:]
        if kind == ord("R") and self.signature and body[:6] == b"\0\0\0\x0cv=":
            self.proved |= body[6:].partition(b",")[0] == self.signature
        return kind, body

    def write(self, data: bytes) -> None:
        """What we send, as `Leg.write`."""
        self.sent.append(data)
        if data[:1] != b"p":
            return
        bare = data[5:].partition(b"n=,")
        if bare[1]:
            self._first = b"n=," + bare[2]
            self._header = bare[0].partition(b"\0")[2][4:]
            self._nonce = self._first.removeprefix(b"n=,r=")
        elif b",p=" in data and self._first:
            self._sign(data[5:])

    def _sign(self, final: bytes) -> None:
        unproven, _, _ = final.rpartition(b",p=")
        bound = self._header + (self._binding if self._header.startswith(b"p=") else b"")
        assert unproven.startswith(b"c=" + base64.b64encode(bound) + b",r="), "bound to what was said"
        salt = base64.b64decode(self.asked.split(b",")[1][2:])
        key = _hmac(hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), salt, 1), b"Server Key")
        self.signature = base64.b64encode(_hmac(key, b",".join((self._first, self.asked, unproven))))


def check(data: bytes) -> None:
    """Log in."""
    options = data[0] if data else 0
    tls = (None, *_CONNECTIONS)[options & 0x3 if options & 0x3 < 3 else 0]
    terms = Terms(
        user="app",
        password=None if options & 0x80 else PASSWORD,
        methods=METHODS[options >> 2 & 0x3],
        channel_binding=BINDINGS[min(options >> 4 & 0x3, 2)],
    )
    server = _Server(data[1:], tls)
    authentication = Authentication(terms, tls, _Derived())
    login = Login(cast("Leg", server), cast("Server", None), authentication, minor=2 if options & 0x40 else 0)
    try:
        connected = _done(login.run([(b"user", b"app")]))
    except UpstreamError as error:
        assert PASSWORD not in str(error) + str(error.public)
        assert error.public == sanitise(error.public)
        assert error.answer is None or authentication.done, "what comes before the login is not told"
    else:
        assert len(connected.announcement) <= MAX_ANNOUNCEMENT_BYTES
        assert len(connected.secret) in range(4, 257)
        _hold_to_what_was_proved(server, terms)
    _hold_to_what_was_sent(server, terms, tls)


def mutate(data: bytes, random: Random) -> bytes:
    """Change the list of messages, or some bytes."""
    if random.random() < 0.3:
        return mutate_bytes(data, random, DICTIONARY)
    options, script, at = data[:1] or b"\0", [], 1
    while at < len(data):
        end = at + 3 + int.from_bytes(data[at + 1 : at + 3])
        script.append(data[at:end])
        at = end
    place = random.randint(0, len(script))
    match random.randrange(5):
        case 0:
            options = random.randbytes(1)
        case 1:
            script.insert(place, random.choice(DICTIONARY))
        case 2:
            del script[place : place + 1]
        case 3 if script:
            script.insert(place, random.choice(script))
        case _ if script:
            place = random.randrange(len(script))
            body = mutate_bytes(script[place][3:], random, (b"{nonce}", b"{proof}", b",", b"=", b"m=x,"))
            script[place] = (
                script[place][:1] + len(body[: MAX_MESSAGE_BYTES - 1]).to_bytes(2) + body[: MAX_MESSAGE_BYTES - 1]
            )
    return options + b"".join(script)


def _hold_to_what_was_proved(server: _Server, terms: Terms) -> None:
    answered = [data for data in server.sent if data[:1] == b"p"]
    if terms.channel_binding == "require":
        assert any(b"SCRAM-SHA-256-PLUS" in data for data in answered)
    if any(b"SCRAM-SHA-256" in data for data in answered):
        assert server.proved, "a server that has not proved that it knows the password let us in"
    elif terms.password is not None and not answered:
        assert "none" in terms.methods


def _hold_to_what_was_sent(server: _Server, terms: Terms, tls: ssl.SSLObject | None) -> None:
    clear = [data for data in server.sent if PASSWORD.encode() in data]
    if clear:
        assert tls is not None
        assert tls.context.verify_mode is ssl.CERT_REQUIRED
        assert "password" in terms.methods
    assert len([data for data in server.sent if data[:1] == b"p"]) <= 2, "a login has two answers at most"
    assert not any(data[5:8] == b"md5" for data in server.sent) or "md5" in terms.methods


def _done(login: Coroutine[Any, Any, T]) -> T:
    """What it comes to: with all of the server's words at hand, it waits for nothing."""
    try:
        login.send(None)
    except StopIteration as done:
        return cast("T", done.value)
    raise AssertionError("it waits")


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _connections() -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Two TLS connections to a server with a certificate: one that was verified, one that was not."""
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority(Path(folder))
        verified, served = authority.client_context(), authority.server_context()
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    return _shaken(verified, served), _shaken(unverified, served)


def _shaken(client: ssl.SSLContext, server: ssl.SSLContext) -> ssl.SSLObject:
    """The client's end of a connection after its handshake."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(back, there, server_hostname="localhost")
    theirs = server.wrap_bio(there, back, server_side=True)
    waiting = [ours, theirs, ours, theirs]
    for end in waiting:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert ours.getpeercert(binary_form=True)
    return ours


_CONNECTIONS = _connections()
