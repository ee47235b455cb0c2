# cython: annotation_typing=False, binding=False
"""Protocol messages as bytes: builders for those the proxy itself sends, and the fields of an ErrorResponse.

Owns the layout of messages (https://www.postgresql.org/docs/current/protocol-message-formats.html) and makes text fit
for them. Never keeps state, never decides what to send.
"""

import functools
import re
import struct
from collections.abc import Iterable, Sequence

PROTOCOL_3_0 = 0x30000
_CANCEL_REQUEST_CODE = 80_877_102
_FIELD_LIMIT = 8_000
"""Bytes of one text field: libpq drops an ErrorResponse of more than 30,000 before it is logged in, and there are 3."""
_LONGEST_COUNT = 18
"""Digits that fit 64 bits."""

_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but newline and tab, what reverses or breaks a line on a terminal, and lone surrogates."""


def _message(kind: bytes, body: bytes = b"") -> bytes:
    """One message: type byte, length word, `body`."""
    return b"%c%b%b" % (kind, struct.pack("!i", len(body) + 4), body)


AUTHENTICATION_OK = _message(b"R", struct.pack("!i", 0))
AUTHENTICATION_CLEARTEXT = _message(b"R", struct.pack("!i", 3))
SSL_REQUEST = struct.pack("!ii", 8, 80_877_103)
TERMINATE = _message(b"X")
SYNC = _message(b"S")


def sanitise(text: str) -> str:
    """`text` fit for a terminal and for the protocol: every other control character than newline and tab is a `?`."""
    return _UNFIT.sub("?", text)


def error_response(
    severity: str, sqlstate: str, message: str, detail: str | None = None, hint: str | None = None
) -> bytes:
    """An ErrorResponse. Texts are sanitised, and cut where they are too long."""
    return _message(b"E", _report(severity, sqlstate, message, detail, hint))


def error_as_it_came(body: bytes) -> bytes:
    """PostgreSQL's own ErrorResponse again."""
    return _message(b"E", body)


def notice_response(
    severity: str, sqlstate: str, message: str, detail: str | None = None, hint: str | None = None
) -> bytes:
    """A NoticeResponse. Never before AuthenticationOk: it breaks libpq there."""
    return _message(b"N", _report(severity, sqlstate, message, detail, hint))


def _report(severity: str, sqlstate: str, text: str, detail: str | None, hint: str | None) -> bytes:
    fields = {"S": severity, "V": severity, "C": sqlstate, "M": text, "D": detail, "H": hint}
    body = b"".join(b"%b%b\0" % (code.encode(), _fit(value)) for code, value in fields.items() if value)
    return body + b"\0"


def _fit(text: str) -> bytes:
    encoded = sanitise(text).encode()
    if len(encoded) <= _FIELD_LIMIT:
        return encoded
    return encoded[:_FIELD_LIMIT].decode(errors="ignore").encode() + b"..."


def parse_error(body: bytes) -> dict[str, str]:
    """The fields of an ErrorResponse or NoticeResponse by their letter. Takes anything; of two alike, the first."""
    fields: dict[str, str] = {}
    for field in body.split(b"\0"):
        if field:
            fields.setdefault(chr(field[0]), field[1:].decode(errors="replace"))
    return fields


def parse_parameter_status(body: bytes) -> tuple[str, str]:
    """The name and the value in a ParameterStatus. Takes anything."""
    name, _, value = body.removesuffix(b"\0").partition(b"\0")
    return name.decode(errors="replace"), value.decode("utf-8", "backslashreplace")


@functools.lru_cache(maxsize=500)  # the same few come all the time
def parse_tag(body: bytes) -> tuple[str, int]:
    """A CommandComplete's tag, and how many rows it counts: its last number, where it is one that a record can hold."""
    tag = body[:-1].decode("utf-8", "backslashreplace")
    count = tag.rpartition(" ")[2]
    counts = len(count) <= _LONGEST_COUNT and count.isascii() and count.isdecimal()
    return tag, int(count) if counts else 0


def backend_key_data(pid: int, secret: bytes) -> bytes:
    """The key that a client sends back to cancel."""
    return _message(b"K", struct.pack("!i", pid) + secret)


def negotiate_protocol_version(minor: int, options: Iterable[bytes]) -> bytes:
    """Protocol 3.`minor` is the newest we speak, and these `_pq_.` options are not known to us.

    The version goes as a whole (0x3000M), as PostgreSQL's own SendNegotiateProtocolVersion and libpq have it.
    """
    names = [_c_string(option) for option in options]
    return _message(b"v", struct.pack("!ii", PROTOCOL_3_0 | minor, len(names)) + b"".join(names))


def startup_message(parameters: Sequence[tuple[bytes, bytes]], version: int = PROTOCOL_3_0) -> bytes:
    """A StartupMessage. Raises ValueError for a NUL or an empty name, which would end it early."""
    if any(not name for name, _ in parameters):
        raise ValueError("a startup parameter without a name")
    body = b"".join(_c_string(name) + _c_string(value) for name, value in parameters)
    return struct.pack("!ii", len(body) + 9, version) + body + b"\0"


def startup_bytes(parameters: Sequence[tuple[bytes, bytes]]) -> int:
    """How long a StartupMessage with these is, without its length word."""
    return sum(len(name) + len(value) + 2 for name, value in parameters) + 5


def cancel_request(pid: int, secret: bytes) -> bytes:
    """A CancelRequest. It has no type byte, as all first packets."""
    return struct.pack("!iii", 12 + len(secret), _CANCEL_REQUEST_CODE, pid) + secret


def password_message(password: bytes) -> bytes:
    """A PasswordMessage: a password in clear, or md5's answer. Raises ValueError for a NUL."""
    return _message(b"p", _c_string(password))


def sasl_initial(mechanism: str, data: bytes) -> bytes:
    """The client's first SASL message."""
    return _message(b"p", _c_string(mechanism.encode()) + struct.pack("!i", len(data)) + data)


def sasl_response(data: bytes) -> bytes:
    """A further SASL message of the client."""
    return _message(b"p", data)


def query(sql: str) -> bytes:
    """A simple query. Raises ValueError for a NUL."""
    return _message(b"Q", _c_string(sql.encode()))


def _c_string(value: bytes) -> bytes:
    if b"\0" in value:
        raise ValueError("a NUL in a protocol string")
    return value + b"\0"
