"""Which of a block's records a term has: sets of small numbers, packed. Pure.

A block is so many records of the log in a row. A set of few numbers is kept as a list of them, one of many as a bitmap,
which is as long as the longest list ("Better bitmap performance with Roaring bitmaps", Chambi and others, 2016). So no
question takes more than a few kilobytes of each block, however common its terms are and however rarely they meet.
"""

import struct
from collections.abc import Collection, Iterable, Sequence

BLOCK_BITS = 15
BLOCK = 1 << BLOCK_BITS
"""Records in one block."""
_BITMAP = BLOCK // 8
_MOST = _BITMAP // 2 - 1
"""Numbers in a list, which have two bytes each: one with more would be as long as a bitmap, or longer."""
_BITS = tuple(tuple(bit for bit in range(8) if byte >> bit & 1) for byte in range(256))


def pack(places: Collection[int]) -> bytes:
    """The set, packed."""
    if len(places) <= _MOST:
        ordered = sorted(places)
        return struct.pack(f"<{len(ordered)}H", *ordered)
    bitmap = bytearray(_BITMAP)
    for place in places:
        bitmap[place >> 3] |= 1 << (place & 7)
    return bytes(bitmap)


def unpack(packed: bytes) -> Sequence[int]:
    """The set, in order."""
    if not is_bitmap(packed):
        return struct.unpack(f"<{len(packed) // 2}H", packed)
    return [place << 3 | bit for place, byte in enumerate(packed) if byte for bit in _BITS[byte]]


def is_bitmap(packed: bytes) -> bool:
    """Whether the set is kept as a bitmap, and not as a list."""
    return len(packed) == _BITMAP


def merge(packed: bytes, more: Collection[int]) -> bytes:
    """The set and some more."""
    return pack({*unpack(packed), *more})


def common(sets: Sequence[bytes]) -> Sequence[int]:
    """What is in every one of these sets, of which there is one at least, in order."""
    lists = sorted((one for one in sets if not is_bitmap(one)), key=len)
    bitmaps = [one for one in sets if is_bitmap(one)]
    if not lists:
        both = int.from_bytes(bitmaps[0])
        for one in bitmaps[1:]:
            both &= int.from_bytes(one)
        return unpack(both.to_bytes(_BITMAP))
    return sorted(within(set(unpack(lists[0])), [*lists[1:], *bitmaps]))


def within(places: set[int], sets: Iterable[bytes]) -> set[int]:
    """Those that are in every one of these sets."""
    for one in sets:
        if is_bitmap(one):
            places = {place for place in places if one[place >> 3] >> (place & 7) & 1}
        else:
            places = places.intersection(unpack(one))
    return places
