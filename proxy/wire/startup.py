"""A connection's first packets: what they are, and what a StartupMessage, CancelRequest or password message holds.

Owns PostgreSQL's rules for them (`ProcessStartupPacket` in backend_startup.c, and the page "Message Flow"). Pure:
never reads a socket, never judges who may come in, never answers. Direct TLS (first byte 0x16) is recognised before a
packet is read at all.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

FIRST_BYTES = 8
"""What every first packet starts with: its length, which counts itself, and its code or version."""
TLS_FIRST_BYTE = 0x16
"""A TLS handshake record where a packet was due: direct TLS. As a length it would be far over the limit."""
NEWEST_MINOR = 2

_MAX_STARTUP_PACKET_LENGTH = 10_000
_CANCEL_REQUEST = 80_877_102
_SSL_REQUEST = 80_877_103
_GSSENC_REQUEST = 80_877_104
_LEAST_SECRET, _MOST_SECRET = 4, 256
_MAJOR = 3
_PASSWORD = ord("p")
_BOOLEANS = {
    b"true": True,
    b"false": False,
    b"yes": True,
    b"no": False,
    b"on": True,
    b"off": False,
    b"1": True,
    b"0": False,
}

Replication: TypeAlias = Literal["physical", "logical"]
"""A walsender (PostgreSQL, "Streaming Replication Protocol") that is in no database, or in one."""


class StartupError(Exception):
    """The packet cannot be served. Where `silent`, the connection is closed without a word, as PostgreSQL does."""

    def __init__(self, sqlstate: str, text: str, *, silent: bool = False) -> None:
        super().__init__(text)
        self.sqlstate = sqlstate
        self.text = text
        self.silent = silent


@dataclass(frozen=True, slots=True, kw_only=True)
class SslRequest:
    """The client asks for TLS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GssRequest:
    """The client asks for GSSAPI encryption."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequest:
    """A key follows. `length` is the whole packet's, with the eight bytes it starts with."""

    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Startup:
    """Parameters follow. `length` is the whole packet's; `version` is 3.x as 0x3000x, x being what the client likes."""

    length: int
    version: int


FirstPacket: TypeAlias = SslRequest | GssRequest | CancelRequest | Startup


@dataclass(frozen=True, slots=True, kw_only=True)
class StartupMessage:
    """What a client asks for at its start."""

    version: int
    parameters: tuple[tuple[bytes, bytes], ...]
    """All but `_pq_.` options, byte for byte, in the client's order, one of each name (the last one's value)."""
    user: str
    database: str
    """As the client wrote it, or `user`. May be longer than the 63 bytes that PostgreSQL looks at."""
    unknown_options: tuple[bytes, ...]
    """The names of its `_pq_.` options: none is known to us, each must be echoed."""
    replication: Replication | None = None
    """What it asks for with `replication`; None for an ordinary session."""

    @property
    def minor(self) -> int:
        """The protocol's minor version that the client asks for."""
        return self.version & 0xFFFF

    @property
    def spoken_minor(self) -> int:
        """The one to speak: 2 or 0. There never was a 3.1 (libpq refuses it from a server)."""
        return NEWEST_MINOR if self.minor >= NEWEST_MINOR else 0


def classify(first: bytes) -> FirstPacket:
    """What the packet is that starts with these eight bytes. Raises StartupError."""
    length, code = struct.unpack("!iI", first)
    if not FIRST_BYTES <= length <= _MAX_STARTUP_PACKET_LENGTH + 4:
        raise StartupError("08P01", "invalid length of startup packet", silent=True)
    if code == _CANCEL_REQUEST:
        if not _LEAST_SECRET <= length - FIRST_BYTES - 4 <= _MOST_SECRET:
            raise StartupError("08P01", "invalid length of cancel request", silent=True)
        return CancelRequest(length=length)
    if code in (_SSL_REQUEST, _GSSENC_REQUEST):
        if length != FIRST_BYTES:
            raise StartupError("08P01", "invalid length of encryption request", silent=True)
        return SslRequest() if code == _SSL_REQUEST else GssRequest()
    major, minor = code >> 16, code & 0xFFFF
    if major != _MAJOR:
        text = f"unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{NEWEST_MINOR}"
        raise StartupError("0A000", text)
    return Startup(length=length, version=code)


def parse_cancel(body: bytes) -> tuple[int, bytes]:
    """The backend's pid and the secret of a CancelRequest, from what follows its first eight bytes."""
    if not _LEAST_SECRET <= len(body) - 4 <= _MOST_SECRET:
        raise StartupError("08P01", "invalid length of cancel request", silent=True)
    return struct.unpack_from("!i", body)[0], body[4:]


def parse_startup(body: bytes, version: int) -> StartupMessage:
    """The StartupMessage, from what follows its first eight bytes. Raises StartupError."""
    parameters, options = {}, []
    pairs = _pairs(body)
    for name, value in pairs:
        if name.startswith(b"_pq_."):
            options.append(name)
        else:
            parameters[name] = value
    user = _name(parameters.get(b"user", b""))
    if not user:
        raise StartupError("28000", "no PostgreSQL user name specified in startup packet")
    return StartupMessage(
        version=version,
        parameters=tuple(parameters.items()),
        user=user,
        database=_name(parameters.get(b"database", b"")) or user,
        unknown_options=tuple(options),
        replication=_replication(value for name, value in pairs if name == b"replication"),
    )


def parse_password(kind: int, body: bytes) -> str:
    """The password in the message that answers our request for one. Raises StartupError for any other message."""
    if kind != _PASSWORD or not body or body.find(b"\0") != len(body) - 1:
        raise StartupError("08P01", f"expected a password, got message {kind}")
    return body[:-1].decode("utf-8", "replace")


def _pairs(body: bytes) -> list[tuple[bytes, bytes]]:
    # Names and values, each ended by a NUL, and an empty name as the body's very last byte.
    at, pairs = 0, []
    while at < len(body) and body[at]:
        name_end = body.find(b"\0", at)
        value_end = body.find(b"\0", name_end + 1)
        if name_end < 0 or value_end < 0:
            break
        pairs.append((body[at:name_end], body[name_end + 1 : value_end]))
        at = value_end + 1
    if at != len(body) - 1:
        raise StartupError("08P01", "invalid startup packet layout: expected terminator as last byte")
    return pairs


def _replication(values: Iterable[bytes]) -> Replication | None:
    # As ProcessStartupPacket: each value in turn, and a `database` is not taken back by what follows.
    walsender = of_database = False
    for value in values:
        if value == b"database":
            walsender = of_database = True
        else:
            walsender = _boolean(value)
    if not walsender:
        return None
    return "logical" if of_database else "physical"


def _boolean(value: bytes) -> bool:
    # As parse_bool (bool.c): any case, and as few letters as tell it from the others.
    word = value.lower()
    meanings = {meaning for whole, meaning in _BOOLEANS.items() if word and whole.startswith(word)}
    if len(meanings) != 1:
        raise StartupError("22023", 'invalid value for parameter "replication"')
    return meanings.pop()


def _name(raw: bytes) -> str:
    # Grants are text, so a name that is none can never be granted; and it must not look like another one.
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise StartupError("28000", "user and database names must be UTF-8") from None
