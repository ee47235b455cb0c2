"""What a TLS client offers in its first message, as far as this proxy must know it before the handshake: ALPN.

Pure, and only a look: the TLS engine judges the message. Python's own TLS server cannot tell a client that offers none
of our protocols from one that offers no protocol at all.
"""

_HANDSHAKE, _CLIENT_HELLO = 0x16, 1
_ALPN = 16
_RECORD_HEADER_BYTES = 5
_VERSION_AND_RANDOM_BYTES = 34


def offered_protocols(record: bytes) -> tuple[bytes, ...]:
    """The protocols that the ClientHello in `record` offers by ALPN (RFC 7301); none where it is no whole ClientHello.

    One that goes on in a second record (RFC 8446, 5.1 allows that) is not looked into.
    """
    if record[:1] != bytes([_HANDSHAKE]) or record[_RECORD_HEADER_BYTES : _RECORD_HEADER_BYTES + 1] != bytes(
        [_CLIENT_HELLO]
    ):
        return ()
    try:
        hello, _ = _vector(record, _RECORD_HEADER_BYTES + 1, 3)
        at = _VERSION_AND_RANDOM_BYTES
        for size in (1, 2, 1):  # the session's id, cipher suites, compression methods
            _, at = _vector(hello, at, size)
        extensions, _ = _vector(hello, at, 2)
        at = 0
        while at < len(extensions):
            kind = int.from_bytes(extensions[at : at + 2])
            content, at = _vector(extensions, at + 2, 2)
            if kind == _ALPN:
                return _names(content)
    except ValueError:
        pass
    return ()


def _names(content: bytes) -> tuple[bytes, ...]:
    names, _ = _vector(content, 0, 2)
    found, at = [], 0
    while at < len(names):
        name, at = _vector(names, at, 1)
        found.append(name)
    return tuple(found)


def _vector(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    """What stands at `at` behind its length of `size` bytes, and where it ends. Raises ValueError where it is cut."""
    begin = at + size
    end = begin + int.from_bytes(data[at:begin])
    if end > len(data) or begin > len(data):
        raise ValueError("cut")
    return data[begin:end], end
