"""Logging in to PostgreSQL: the conversation from StartupMessage to the first ReadyForQuery, on a leg that is open.

Owns which authentication methods are answered, and with what: SCRAM-SHA-256, a password in clear where TLS has
verified the server, or nothing at all. A rogue server gets neither the password nor a hash of it, cannot keep us busy,
and its words reach a client only where they are about the client's own doing.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from proxy.dial import UpstreamError
from proxy.errors import ClientGone, ProtocolViolation
from proxy.leg import Leg
from proxy.scram import MECHANISM, Exchange, KeyCache, ScramError
from proxy.wire import messages

MAX_MESSAGE_BYTES = 65_536
MAX_MESSAGES = 1_000
MAX_ANNOUNCEMENT_BYTES = 262_144
"""What a server may say before it is ready. PostgreSQL 18 says some 20 messages and 600 bytes."""
_SECRET_BYTES = range(4, 257)

_OK, _CLEARTEXT, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 3, 10, 11, 12
_REFUSED_METHODS = {2: "Kerberos V5", 5: "md5", 6: "SCM", 7: "GSSAPI", 8: "GSSAPI", 9: "SSPI"}
_NOT_OURS = ("53", "57P0")
"""Before we are logged in, only these SQLSTATEs are not about our credential: no resources, starting, stopping."""
_CREDENTIAL = "28"


class CredentialError(UpstreamError):
    """The server refused the proxy's own login, or asked for what the proxy does not have: the operators' matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """A backend that is ready for its first query."""

    leg: Leg
    pid: int
    secret: bytes = field(repr=False)
    announcement: bytes
    """ParameterStatus and NoticeResponse messages, byte for byte as they came."""


class Login:
    """One login. `trusted`: TLS has verified that the server is who it should be."""

    def __init__(self, leg: Leg, password: str | None, keys: KeyCache, *, trusted: bool) -> None:
        self._leg = leg
        self._password = password
        self._keys = keys
        self._trusted = trusted
        self._exchange: Exchange | None = None
        self._answered = False
        """The server has asked for a password, and got its answer. It may ask once."""
        self._logged_in = False
        self._backend_key: tuple[int, bytes] | None = None
        self._announcement = bytearray()

    async def run(self, parameters: Sequence[tuple[bytes, bytes]]) -> Connected:
        """Hold the conversation. Raises UpstreamError; ValueError for a NUL in `parameters`."""
        self._leg.write(messages.startup_message(parameters))
        try:
            for _ in range(MAX_MESSAGES):
                kind, body = await self._leg.read(MAX_MESSAGE_BYTES)
                if kind == ord("Z"):
                    return self._ready()
                await self._take(kind, body)
        except ClientGone as error:
            raise UpstreamError(f"the server closed the connection {self._stage}") from error
        except (ProtocolViolation, ScramError) as error:
            raise UpstreamError(f"{error}, {self._stage}") from error
        raise UpstreamError(f"more than {MAX_MESSAGES} messages {self._stage}")

    async def _take(self, kind: int, body: bytes) -> None:
        match chr(kind):
            case "R":
                await self._authenticate(body)
            case "E":
                raise self._refusal(body)
            case "S" | "N":
                self._announce(kind, body)
            case "K" if self._logged_in:
                self._backend_key = _parse_key(body)
            case "v" if not self._logged_in:
                pass  # an upstream that knows less than 3.0 with its options: what it does not know it leaves out
            case _:
                raise ProtocolViolation(f"unexpected message of type {kind}")

    def _announce(self, kind: int, body: bytes) -> None:
        self._announcement += b"%c%b%b" % (kind, struct.pack("!i", len(body) + 4), body)
        if len(self._announcement) > MAX_ANNOUNCEMENT_BYTES:
            raise ProtocolViolation(f"more than {MAX_ANNOUNCEMENT_BYTES} bytes of parameters and notices")

    def _ready(self) -> Connected:
        if not self._logged_in or self._backend_key is None:
            raise ProtocolViolation("ReadyForQuery without a login and a backend's key")
        pid, secret = self._backend_key
        return Connected(leg=self._leg, pid=pid, secret=secret, announcement=bytes(self._announcement))

    # Authentication.

    async def _authenticate(self, body: bytes) -> None:
        if len(body) < 4 or self._logged_in:  # noqa: PLR2004 the method's code
            raise ProtocolViolation("malformed or late authentication request")
        code, data = int.from_bytes(body[:4]), body[4:]
        if code == _OK:
            self._accept()
        elif code == _CLEARTEXT:
            self._send_cleartext()
        elif code == _SASL:
            self._start_scram(data)
        elif code == _SASL_CONTINUE and self._exchange is not None:
            self._leg.write(messages.sasl_response(await self._exchange.final(data)))
        elif code == _SASL_FINAL and self._exchange is not None:
            self._exchange.verify(data)
        else:
            method = _REFUSED_METHODS.get(code, f"method {code}")
            raise CredentialError(
                f"the server asks for {method}; only scram-sha-256 and password over TLS are answered"
            )

    def _accept(self) -> None:
        if self._exchange is not None and not self._exchange.verified:
            raise ScramError("the server let us in without proving that it knows the password")
        self._logged_in = True

    def _send_cleartext(self) -> None:
        password = self._asked("a password in clear")
        if not self._trusted:
            raise CredentialError(
                "the server asks for the password in clear; it gets that only over TLS with sslmode verify-ca or "
                "verify-full, so set one of them, or scram-sha-256 in the server's pg_hba.conf"
            )
        self._leg.write(messages.password_message(password.encode()))

    def _start_scram(self, data: bytes) -> None:
        password = self._asked("SCRAM")
        offered = data.split(b"\0")
        if MECHANISM.encode() not in offered:
            raise CredentialError(
                f"the server offers none but {messages.sanitise(repr(offered)[:200])}, not {MECHANISM}"
            )
        self._exchange = Exchange(password, self._keys)
        self._leg.write(messages.sasl_initial(MECHANISM, self._exchange.first()))

    def _asked(self, method: str) -> str:
        if self._answered:
            raise ProtocolViolation("the server asks for a password twice")
        self._answered = True
        if self._password is None:
            raise CredentialError(f"the server asks for {method}, and the configuration has no password for this login")
        return self._password

    # What the server refuses.

    def _refusal(self, body: bytes) -> UpstreamError:
        fields = messages.parse_error(body)
        sqlstate, text = _sqlstate(fields.get("C", "")), messages.sanitise(fields.get("M", ""))[:1_000]
        log_text = f"the server said {sqlstate} {text!r} {self._stage}"
        if sqlstate.startswith(_CREDENTIAL):
            return CredentialError(log_text)
        if text and (self._logged_in or sqlstate.startswith(_NOT_OURS)):
            return UpstreamError(log_text, sqlstate=sqlstate, public=text, answer=body if self._logged_in else None)
        return UpstreamError(log_text)

    @property
    def _stage(self) -> str:
        return "after the login" if self._logged_in else "during the login"


def _sqlstate(code: str) -> str:
    """`code` where it has a SQLSTATE's form, else internal error: it goes into a message of ours."""
    return code if len(code) == 5 and code.isascii() and code.isalnum() else "XX000"  # noqa: PLR2004 SQL's own length


def _parse_key(body: bytes) -> tuple[int, bytes]:
    secret = body[4:]
    if len(secret) not in _SECRET_BYTES:
        raise ProtocolViolation(f"a backend's key of {len(body)} bytes")
    return int.from_bytes(body[:4], signed=True), secret
