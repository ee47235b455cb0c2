"""The log's tree in tiles of 256 hashes, as transparency logs keep it (https://c2sp.org/tlog-tiles). Pure.

Tile `number` of level L holds the hashes of 256 complete subtrees of 256**L leaves each, side by side; what is between
two levels is folded from a tile when it is needed. So the tree takes about 32 bytes a record, adding to it changes one
tile of a level beside those it fills, and no proof needs more than a few tiles. Where tiles are kept is the store's.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from proxy.contract.merkle import HASH_BYTES, node_hash

HEIGHT = 8
WIDTH = 1 << HEIGHT
TILE_BYTES = WIDTH * HASH_BYTES


class Place(NamedTuple):
    """Where a tile stands."""

    level: int
    number: int


def width_at(size: int, place: Place) -> int:
    """How many hashes a tile has in the tree of `size` leaves: 256 in a full one, 0 where there is none yet."""
    hashes = size >> HEIGHT * place.level
    return max(0, min(WIDTH, hashes - place.number * WIDTH))


def edge(size: int) -> Sequence[Place]:
    """The tiles that the next leaves go into, where they hold something already."""
    places = []
    for level in range(size.bit_length() // HEIGHT + 1):
        place = Place(level, size >> HEIGHT * (level + 1))
        if width_at(size, place):
            places.append(place)
    return places


def append(size: int, tiles: Mapping[Place, bytes], leaves: Sequence[bytes]) -> dict[Place, bytes]:
    """The tiles that are new or changed once `leaves`, which are leaves' hashes, stand behind the first `size` ones.

    `tiles` has those of `edge(size)`.
    """
    changed: dict[Place, bytes] = {}
    level, added = 0, b"".join(leaves)
    while added:
        number = size >> HEIGHT * (level + 1)
        hashes = tiles.get(Place(level, number), b"") + added
        added = b""
        for begin in range(0, len(hashes), TILE_BYTES):
            tile = hashes[begin : begin + TILE_BYTES]
            changed[Place(level, number)] = tile
            if len(tile) == TILE_BYTES:
                added += _folded(tile)
            number += 1
        level += 1
    return changed


def place_of(level: int, index: int) -> tuple[Place, int, int]:
    """Where the complete subtree `index` of 2**level leaves is folded from: the tile, and from which byte to which."""
    within = level % HEIGHT
    first = index << within
    begin = first % WIDTH * HASH_BYTES
    return Place(level // HEIGHT, first // WIDTH), begin, begin + (HASH_BYTES << within)


class MissingTileError(Exception):
    """A tile that the tree must have is not there, or not whole: the store was damaged."""


class Tiles:
    """Gives proofs their nodes, as `merkle.Nodes`, out of tiles."""

    def __init__(self, tiles: Mapping[Place, bytes]) -> None:
        self._tiles = tiles

    def __call__(self, level: int, index: int) -> bytes:
        """The hash of one complete subtree. Raises MissingTileError."""
        place, begin, end = place_of(level, index)
        hashes = self._tiles.get(place, b"")[begin:end]
        if len(hashes) != end - begin:
            raise MissingTileError(f"the log's tile {place.number} of level {place.level} is missing or cut")
        return _folded(hashes)


class Wanted:
    """Stands for the nodes while it is found out which ones a proof needs: by their tiles, in `places`."""

    def __init__(self) -> None:
        self.places: dict[Place, set[tuple[int, int]]] = {}

    def __call__(self, level: int, index: int) -> bytes:
        """No hash that means anything."""
        self.places.setdefault(place_of(level, index)[0], set()).add((level, index))
        return bytes(HASH_BYTES)


def _folded(hashes: bytes) -> bytes:
    """The root over hashes that stand side by side, a power of two of them."""
    row = [hashes[begin : begin + HASH_BYTES] for begin in range(0, len(hashes), HASH_BYTES)]
    while len(row) > 1:
        row = [node_hash(left, right) for left, right in zip(row[::2], row[1::2], strict=True)]
    return row[0]
