"""An input that is a conversation: chunks of bytes, each from one side; and how it is changed for the next try.

A chunk is its side (`<` is the server's, anything else the client's), two bytes of length and so many bytes of that
side's stream: what a message is, and where it is cut, are two things. Long bodies are short to say: `[` (the server's)
and `]` have a length alone, and are 16 zero bytes for each of it. Any bytes are a conversation; changing one here
moves, repeats, cuts and joins messages and chunks, and sets lengths right or wrong, which blind changes seldom do.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from random import Random

LONGEST = 0xFFFF
CLIENT, SERVER = ord(">"), ord("<")
CLIENT_ZEROS, SERVER_ZEROS = ord("]"), ord("[")
ZEROS = 16
MOST_ZEROS = 400_000
"""In a conversation, all in all."""
LENGTHS = (-(2**31), -1, 0, 3, 4, 5, 10_000, 10_001, 65_540, 65_541, 80_000, 150_000, 150_001, 2**30 + 17, 2**31 - 1)
FROM_CLIENT = tuple(
    kind + struct.pack("!i", len(body) + 4) + body
    for kind, body in [
        *(
            (b"Q", sql + b"\0")
            for sql in (b"", b"select 1", b"copy t from stdin", b"alter role r password 'p'", b"\xff")
        ),
        *((b"P", name + b"\0select $1\0\0\1\0\0\0\x17") for name in (b"", b"s", b"n" * 64)),
        *((b"B", names + b"\0\0\0\0\1\0\0\0\1x\0\0") for names in (b"\0", b"p\0s", b"\0s", b"p\0")),
        *((b"E", name + b"\0\0\0\0" + limit) for name in (b"", b"p") for limit in (b"\0", b"\1")),
        *((kind, what + b"\0") for kind in (b"D", b"C") for what in (b"S", b"P", b"Ss", b"Pp")),
        *((kind, b"") for kind in (b"S", b"S", b"S", b"H", b"c", b"X", b"d")),
        *((b"f", b"no\0"), (b"d", b"1\t2\n"), (b"F", b"\0\0\3\xf3\0\0\0\0\0\0")),
    ]
)
FROM_SERVER = tuple(
    kind + struct.pack("!i", len(body) + 4) + body
    for kind, body in [
        *((kind, b"") for kind in (b"1", b"2", b"3", b"n", b"I", b"s", b"c", b"d")),
        *((b"C", tag + b"\0") for tag in (b"SELECT 1", b"COPY 2", b"BEGIN", b"INSERT 0 5")),
        *((b"Z", state) for state in (b"I", b"I", b"T", b"E")),
        *((b"E", b"S%b\0V%b\0C22012\0Mno\0\0" % (one, one)) for one in (b"ERROR", b"ERROR", b"FATAL")),
        *((kind, b"\0\0\1\0\0") for kind in (b"G", b"H", b"W")),
        *((b"t", b"\0\1\0\0\0\x17"), (b"T", b"\0\0"), (b"D", b"\0\1\0\0\0\1x"), (b"V", b"\xff\xff\xff\xff")),
        *((b"S", b"TimeZone\0UTC\0"), (b"N", b"SNOTICE\0\0"), (b"A", b"\0\0\0\1a\0\0")),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A chunk of one side's stream."""

    by_client: bool
    data: bytes


def read(data: bytes) -> list[Turn]:
    """The conversation that `data` is; of one that is cut, what there is."""
    turns, at, zeros = [], 0, MOST_ZEROS
    while at < len(data):
        side, size = data[at], int.from_bytes(data[at + 1 : at + 3])
        at += 3
        if side in (CLIENT_ZEROS, SERVER_ZEROS):
            said = bytes(min(size * ZEROS, zeros))
            zeros -= len(said)
        else:
            said = data[at : at + size]
            at += size
        turns.append(Turn(by_client=side not in (SERVER, SERVER_ZEROS), data=said))
    return turns


def write(turns: Iterable[Turn]) -> bytes:
    """The input that is this conversation."""
    return b"".join(_written(turn) for turn in turns)


def _written(turn: Turn) -> bytes:
    size = len(turn.data)
    if size >= ZEROS and size % ZEROS == 0 and not any(turn.data):
        return b"%c%b" % (CLIENT_ZEROS if turn.by_client else SERVER_ZEROS, struct.pack("!H", size // ZEROS))
    return b"%c%b%b" % (
        CLIENT if turn.by_client else SERVER,
        struct.pack("!H", min(size, LONGEST)),
        turn.data[:LONGEST],
    )


def mutate(data: bytes, random: Random) -> bytes:
    """Another conversation, not far from this one."""
    turns = read(data)
    for _ in range(random.choice([1, 1, 2, 4])):
        change = random.choice(_CHANGES)
        if turns or change is _say:
            change(turns, random)
    return write(turns)


def messages(stream: bytes) -> list[bytes]:
    """The stream's messages, as their lengths say; the rest, where they lie, is the last one."""
    found, at = [], 0
    while at < len(stream):
        end = max(at + 5, at + 1 + int.from_bytes(stream[at + 1 : at + 5], signed=True))
        found.append(stream[at:end])
        at = end
    return found


def _say(turns: list[Turn], random: Random) -> None:
    by_client = random.random() < 0.5
    said = random.choices(FROM_CLIENT if by_client else FROM_SERVER, k=random.choice([1, 1, 2, 4]))
    turns.insert(random.randint(0, len(turns)), Turn(by_client=by_client, data=b"".join(said)))


def _say_in_turn(turns: list[Turn], random: Random) -> None:
    at = random.randrange(len(turns))
    parts = messages(turns[at].data)
    parts.insert(random.randint(0, len(parts)), random.choice(FROM_CLIENT if turns[at].by_client else FROM_SERVER))
    turns[at] = replace(turns[at], data=b"".join(parts))


def _change_messages(turns: list[Turn], random: Random) -> None:
    at = random.randrange(len(turns))
    parts = messages(turns[at].data) or [b""]
    one = random.randrange(len(parts))
    match random.randrange(4):
        case 0:
            del parts[one]
        case 1:
            parts.insert(random.randint(0, len(parts)), parts[one])
        case 2:
            parts.insert(random.randint(0, len(parts) - 1), parts.pop(one))
        case _:
            parts[one] = _changed(parts[one], random)
    turns[at] = replace(turns[at], data=b"".join(parts))


def _changed(message: bytes, random: Random) -> bytes:
    body, length = message[5:], message[1:5]
    if random.random() < 0.2:
        length = struct.pack("!i", random.choice(LENGTHS))
    elif body:
        at = random.randrange(len(body))
        size = random.choice([0, 1, 1, 2, 4])
        body = (
            body[:at] + random.choice([b"", b"\0", random.randbytes(size), body[at : at + 8] * 2]) + body[at + size :]
        )
        length = struct.pack("!i", len(body) + 4)
    return message[:1] + length + body


def _fill(turns: list[Turn], random: Random) -> None:
    size = random.choice([1, 2, 100, 255, 256, 620, 625, 4_095, 4_096, 4_097, 9_376])
    at = random.randint(0, len(turns))
    turns[at:at] = [Turn(by_client=random.random() < 0.5, data=bytes(ZEROS * size))] * random.choice([1, 1, 1, 4, 18])


def _cut(turns: list[Turn], random: Random) -> None:
    at = random.randrange(len(turns))
    turn, offset = turns[at], random.randint(0, len(turns[at].data))
    turns[at : at + 1] = [replace(turn, data=turn.data[:offset]), replace(turn, data=turn.data[offset:])]


def _join(turns: list[Turn], random: Random) -> None:
    """With the next of the same side, wherever that is."""
    at = random.randrange(len(turns))
    for later in range(at + 1, len(turns)):
        if turns[later].by_client == turns[at].by_client:
            turns[at] = replace(turns[at], data=turns[at].data + turns.pop(later).data)
            return


def _move(turns: list[Turn], random: Random) -> None:
    turns.insert(random.randrange(len(turns)), turns.pop(random.randrange(len(turns))))


def _repeat(turns: list[Turn], random: Random) -> None:
    at = random.randrange(len(turns))
    turns[at:at] = turns[at : at + random.randint(1, 4)]


def _drop(turns: list[Turn], random: Random) -> None:
    at = random.randrange(len(turns))
    del turns[at : at + random.randint(1, 4)]


_CHANGES = (_say, _say, _say_in_turn, _change_messages, _change_messages, _cut, _join, _move, _repeat, _drop, _fill)
