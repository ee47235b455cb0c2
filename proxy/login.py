"""Logging in to PostgreSQL: the conversation from StartupMessage to the first ReadyForQuery, on a leg that is open.

Owns the order in which things may be said, and the protocol version that comes of it; `proxy.authentication` answers
what the server asks for. A rogue server cannot keep us busy, and its words reach a client only where they are about the
client's own doing.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from proxy.authentication import Authentication, CredentialError
from proxy.dial import Server, Unreachable, UpstreamError
from proxy.errors import ClientGone, ProtocolViolation
from proxy.leg import Leg
from proxy.scram import ScramError
from proxy.wire import messages

MAX_MESSAGE_BYTES = 65_536
MAX_MESSAGES = 1_000
MAX_ANNOUNCEMENT_BYTES = 262_144
"""What a server may say before it is ready. PostgreSQL 18 says some 20 messages and 600 bytes."""
_SECRET_BYTES = {0: range(4, 5), 2: range(4, 257)}
"""The length of a backend's key, by minor protocol version."""
_VERSIONS = {messages.PROTOCOL_3_0 | minor: minor for minor in _SECRET_BYTES}
"""The versions that a server may choose. There never was a 3.1."""

_NEGOTIATE_BYTES = 8
_NOT_OURS = ("53", "57P0")
"""Before we are logged in, only these SQLSTATEs are not about our credential: no resources, starting, stopping."""
_CREDENTIAL = "28"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """A backend that is ready for its first query."""

    leg: Leg
    pid: int
    secret: bytes = field(repr=False)
    server: Server
    announcement: bytes
    """ParameterStatus and NoticeResponse messages, byte for byte as they came."""
    told: tuple[int, str | None] | None = None
    """Behind a pooler: the backend's pid and start by its own word (`proxy.pooled`); `pid` is the pooler's."""


class Login:
    """One login, on a leg to `server`. `minor`: the newest protocol version that is asked for is 3.`minor`."""

    def __init__(self, leg: Leg, server: Server, authentication: Authentication, *, minor: int) -> None:
        self._leg = leg
        self._server = server
        self._authentication = authentication
        self._minor = minor
        self._heard = False
        self._backend_key: tuple[int, bytes] | None = None
        self._announcement = bytearray()

    async def run(self, parameters: Sequence[tuple[bytes, bytes]]) -> Connected:
        """Hold the conversation. Raises UpstreamError; ValueError for a NUL in `parameters`."""
        self._leg.write(messages.startup_message(parameters, messages.PROTOCOL_3_0 | self._minor))
        try:
            for _ in range(MAX_MESSAGES):
                kind, body = await self._leg.read(MAX_MESSAGE_BYTES)
                self._heard = True
                if kind == ord("Z"):
                    return self._ready()
                await self._take(kind, body)
        except ClientGone as error:
            closed = UpstreamError if self._heard else Unreachable
            raise closed(f"the server closed the connection {self._stage}") from error
        except (ProtocolViolation, ScramError) as error:
            raise UpstreamError(f"{error}, {self._stage}") from error
        raise UpstreamError(f"more than {MAX_MESSAGES} messages {self._stage}")

    async def _take(self, kind: int, body: bytes) -> None:
        match chr(kind):
            case "R":
                if answer := await self._authentication.answer(body):
                    self._leg.write(answer)
            case "E":
                raise self._refusal(body)
            case "S" | "N":
                self._announce(kind, body)
            case "K" if self._logged_in:
                self._backend_key = self._parse_key(body)
            case "v" if not self._logged_in:
                self._negotiate(body)
            case _:
                raise ProtocolViolation(f"unexpected message of type {kind}")

    def _negotiate(self, body: bytes) -> None:
        """Take the server's word for an older version, under libpq's conditions (pqGetNegotiateProtocolVersion3).

        No `_pq_` option is ever asked for, so none can be unknown; a server that changes nothing has nothing to say.
        """
        if len(body) < _NEGOTIATE_BYTES:
            raise ProtocolViolation(f"a protocol negotiation of {len(body)} bytes")
        version, options = struct.unpack_from("!ii", body)
        chosen = _VERSIONS.get(version)
        if chosen is None or chosen >= self._minor or options:
            raise ProtocolViolation(f"the server wants protocol {version:#x} and refuses {options} options")
        self._minor = chosen

    def _announce(self, kind: int, body: bytes) -> None:
        self._announcement += b"%c%b%b" % (kind, struct.pack("!i", len(body) + 4), body)
        if len(self._announcement) > MAX_ANNOUNCEMENT_BYTES:
            raise ProtocolViolation(f"more than {MAX_ANNOUNCEMENT_BYTES} bytes of parameters and notices")

    def _ready(self) -> Connected:
        if not self._logged_in or self._backend_key is None:
            raise ProtocolViolation("ReadyForQuery without a login and a backend's key")
        pid, secret = self._backend_key
        announcement = bytes(self._announcement)
        return Connected(leg=self._leg, pid=pid, secret=secret, server=self._server, announcement=announcement)

    def _parse_key(self, body: bytes) -> tuple[int, bytes]:
        secret = body[4:]
        if len(secret) not in _SECRET_BYTES[self._minor]:
            raise ProtocolViolation(f"a backend's key of {len(body)} bytes in protocol 3.{self._minor}")
        return int.from_bytes(body[:4], signed=True), secret

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
    def _logged_in(self) -> bool:
        return self._authentication.done

    @property
    def _stage(self) -> str:
        return "after the login" if self._logged_in else "during the login"


def _sqlstate(code: str) -> str:
    """`code` where it has a SQLSTATE's form, else internal error: it goes into a message of ours."""
    return code if len(code) == 5 and code.isascii() and code.isalnum() else "XX000"  # noqa: PLR2004 SQL's own length
