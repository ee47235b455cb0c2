"""Blind changes of an input's bytes, for inputs whose form nobody knows better."""

from collections.abc import Sequence
from random import Random


def mutate_bytes(data: bytes, random: Random, dictionary: Sequence[bytes] = ()) -> bytes:
    """Some bytes changed, left out, put in or repeated."""
    for _ in range(random.choice([1, 1, 2, 4, 8])):
        at = random.randint(0, len(data))
        size = random.choice([0, 1, 1, 2, 4, 8])
        new = random.choice(
            [
                b"",
                random.randbytes(size),
                bytes([random.choice([0, 1, 4, 5, 0x7F, 0x80, 0xFF])]) * size,
                data[at : at + random.randint(0, 32)] * 2,
                data[random.randint(0, len(data)) :][:16],
                random.choice(dictionary or [b"\0"]),
            ]
        )
        data = data[:at] + new + data[at + size :]
    return data
