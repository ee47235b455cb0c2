"""The tree in tiles: the same tree as RFC 9162's, however its leaves came."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control.evidence.tree import WIDTH, MissingTileError, Place, Tiles, Wanted, append, edge, place_of, width_at
from proxy.contract import merkle
from tests.unit.proxy.contract.test_merkle import Tree

MOST = 2 * WIDTH * 3
LEAVES = [b"line %d" % number for number in range(MOST)]
HASHES = [merkle.leaf_hash(line) for line in LEAVES]


def grown(*sizes: int) -> dict[Place, bytes]:
    """The tiles of a tree that grew to each of these sizes in turn."""
    tiles: dict[Place, bytes] = {}
    for before, after in itertools.pairwise((0, *sizes)):
        given_tiles = {place: tiles[place] for place in edge(before)}
        tiles |= append(before, given_tiles, HASHES[before:after])
    return tiles


@settings(max_examples=40)
@given(st.lists(st.integers(0, MOST), min_size=1, max_size=6).map(sorted))
def test_batches_make_no_difference(sizes: list[int]) -> None:
    """The tiles are the same as if all had come at once."""
    assert grown(*sizes) == grown(sizes[-1])


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 513, MOST])
def test_the_tiles_hold_the_tree(size: int) -> None:
    """Its root, a proof of its first, last and some other leaves, and of how it began."""
    nodes, plain = Tiles(grown(size)), Tree(LEAVES[:size])
    root = merkle.root(size, nodes)
    assert root == merkle.root(size, plain)
    for index in {0, size // 3, size - 1}:
        merkle.verify_inclusion(LEAVES[index], index, size, merkle.inclusion(index, size, nodes), root)
    for old in {1, size // 2, size - 1} - {0}:
        proof = merkle.consistency(old, size, nodes)
        merkle.verify_consistency(old, size, proof, merkle.root(old, plain), root)


def test_a_third_level() -> None:
    """256 full tiles of the first level fill one of the second, and begin the third."""
    size = WIDTH * WIDTH + 1
    tiles = append(0, {}, HASHES[:1] * size)
    assert {place: len(hashes) // merkle.HASH_BYTES for place, hashes in tiles.items() if place.level} == {
        Place(1, 0): WIDTH,
        Place(2, 0): 1,
    }
    assert merkle.root(size, Tiles(tiles)) == merkle.node_hash(tiles[Place(2, 0)], HASHES[0])
    assert edge(size) == [Place(0, WIDTH), Place(2, 0)]


def test_widths() -> None:
    """What of a tile is filled."""
    assert [width_at(600, Place(0, number)) for number in range(4)] == [256, 256, 88, 0]
    assert [width_at(600, Place(level, 0)) for level in range(3)] == [256, 2, 0]
    assert edge(600) == [Place(0, 2), Place(1, 0)]
    assert edge(0) == []


def test_a_damaged_store_is_said_to_be_one() -> None:
    """A tile that is missing or too short gives no hash."""
    tiles = grown(300)
    tiles[Place(0, 1)] = tiles[Place(0, 1)][:32]
    for lacking in (tiles, {}):
        with pytest.raises(MissingTileError, match="tile 1 of level 0"):
            merkle.inclusion(299, 300, Tiles({place: lacking[place] for place in lacking if place.number}))


def test_what_a_proof_needs_is_few() -> None:
    """A proof among a billion leaves takes a handful of tiles."""
    wanted = Wanted()
    merkle.inclusion(123_456_789, 1_000_000_000, wanted)
    assert len(wanted.places) <= 12
    assert place_of(30, 0) == (Place(3, 0), 0, 64 * merkle.HASH_BYTES)
