"""A naive reference for the framers: the whole stream at once, slow and plainly right."""

import struct

FRONTEND_SMALL = b"CDEHSXcf"
FRONTEND_LARGE = b"QPBF"
BACKEND_WANTED = b"CZEIs1GHWStKVv"
BACKEND_COUNTED = b"23nT"
KEEP = 262_144


def message(kind: bytes, body: bytes = b"") -> bytes:
    """One message with an honest header."""
    return kind + struct.pack("!i", len(body) + 4) + body


def header(kind: bytes, length: int) -> bytes:
    """A header that says what it likes."""
    return kind + struct.pack("!i", length)


def frontend(stream: bytes, limit: int) -> tuple[list[tuple[int, bytes]], bytes, bool]:
    """The messages of a client's stream, what goes on of it, and whether it dies."""
    messages: list[tuple[int, bytes]] = []
    at = told = count = 0
    while at < len(stream):
        kind = stream[at : at + 1]
        cap = 10_000 if kind in FRONTEND_SMALL else limit if kind in FRONTEND_LARGE else 0x3FFF_FFFF
        if kind not in FRONTEND_SMALL + FRONTEND_LARGE + b"d":
            return messages, stream[:at], True
        if at + 5 > len(stream):
            break
        length = int.from_bytes(stream[at + 1 : at + 5], signed=True)
        if not 4 <= length <= cap:
            return messages, stream[:at], True
        end = at + 1 + length
        if kind == b"d":
            if end > len(stream):
                return messages, stream, False
            count += length - 4
        elif end > len(stream):
            break
        else:
            if count != told:
                messages.append((ord("d"), count.to_bytes(8)))
                told = count
            messages.append((kind[0], stream[at + 5 : end]))
        at = end
    return messages, stream[:at], False


def backend(stream: bytes) -> tuple[list[tuple[int, bytes, int]], int, bool]:
    """The wanted messages of a server's stream, where its last whole message ends, and whether it dies."""
    messages: list[tuple[int, bytes, int]] = []
    at = counted = told = count = 0
    while at + 5 <= len(stream):
        kind = stream[at : at + 1]
        length = int.from_bytes(stream[at + 1 : at + 5], signed=True)
        if not 4 <= length <= 2**30 + 16:
            return messages, at, True
        end = at + 1 + length
        if end > len(stream):
            break
        counted += kind in BACKEND_COUNTED
        count += length - 4 if kind == b"d" else 0
        if kind in BACKEND_WANTED and count != told:
            messages.append((ord("d"), count.to_bytes(8), end))
            told = count
        if kind == b"E" and counted:
            messages.append((ord("2"), counted.to_bytes(8), end))
        if kind in BACKEND_WANTED:
            messages.append((kind[0], stream[at + 5 : end][:KEEP], end))
            counted = counted if kind == b"S" else 0
        at = end
    return messages, at, False


def copied(stream: bytes) -> int:
    """How many bytes of CopyData's contents a good stream has so far."""
    return len(contents(stream))


def contents(stream: bytes) -> bytes:
    """What CopyData a good stream has so far, end to end."""
    found, at = [], 0
    while at + 5 <= len(stream):
        length = int.from_bytes(stream[at + 1 : at + 5])
        if stream[at : at + 1] == b"d":
            found.append(stream[at + 5 : at + 1 + length])
        at += 1 + length
    return b"".join(found)
