"""What a TLS client asks for in its first message, as far as this proxy must know it before the handshake.

Pure, and only a look: the TLS engine judges the message. Python's own TLS server cannot tell a client that offers none
of our protocols from one that offers no protocol at all, and complains on standard error of a name that is not ASCII.
"""

from dataclasses import dataclass

_HANDSHAKE, _CLIENT_HELLO = 0x16, 1
_SERVER_NAME, _ALPN = 0, 16
_HOST_NAME = 0
_RECORD_HEADER_BYTES = 5
_VERSION_AND_RANDOM_BYTES = 34


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientHello:
    """What it asks for; nothing, where a message says nothing or cannot be read."""

    name: str = ""
    """The server's (SNI, RFC 6066)."""
    protocols: tuple[bytes, ...] = ()
    """Those it offers to speak (ALPN, RFC 7301)."""


def parse_client_hello(record: bytes) -> ClientHello:
    """The ClientHello in a TLS record. One that goes on in a second record (RFC 8446, 5.1) is not looked into."""
    body = _RECORD_HEADER_BYTES + 1
    if record[:1] != bytes([_HANDSHAKE]) or record[_RECORD_HEADER_BYTES:body] != bytes([_CLIENT_HELLO]):
        return ClientHello()
    try:
        extensions = _extensions(_vector(record, body, 3)[0])
        name = _first_name(extensions[_SERVER_NAME]) if _SERVER_NAME in extensions else ""
        protocols = _vectors(_vector(extensions[_ALPN], 0, 2)[0]) if _ALPN in extensions else ()
    except ValueError:
        return ClientHello()
    return ClientHello(name=name, protocols=protocols)


def _extensions(hello: bytes) -> dict[int, bytes]:
    at = _VERSION_AND_RANDOM_BYTES
    for size in (1, 2, 1):  # the session's id, cipher suites, compression methods
        _, at = _vector(hello, at, size)
    data, _ = _vector(hello, at, 2)
    extensions, at = {}, 0
    while at < len(data):
        kind = int.from_bytes(data[at : at + 2])
        extensions[kind], at = _vector(data, at + 2, 2)
    return extensions


def _first_name(content: bytes) -> str:
    names, _ = _vector(content, 0, 2)
    if names[:1] != bytes([_HOST_NAME]):
        return ""
    return _vector(names, 1, 2)[0].decode("ascii", "replace")


def _vectors(data: bytes) -> tuple[bytes, ...]:
    found, at = [], 0
    while at < len(data):
        one, at = _vector(data, at, 1)
        found.append(one)
    return tuple(found)


def _vector(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    """What stands at `at` behind its length of `size` bytes, and where it ends. Raises ValueError where it is cut."""
    begin = at + size
    end = begin + int.from_bytes(data[at:begin])
    if end > len(data) or begin > len(data):
        raise ValueError("cut")
    return data[begin:end], end
