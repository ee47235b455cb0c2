"""The Merkle tree over all records: hashes, proofs, and what verifies them (RFC 9162, section 2.1). Pure.

A leaf is one record's line, byte for byte, without its newline; its place is the order in which control stored it. A
tree's head proves all that is in it: with an inclusion proof, that a record is; with a consistency proof, that a newer
tree still has all of an older one. So whoever kept an old head finds a store that was rolled back or rewritten, even by
the one who holds all keys.

Proofs are made from a `Nodes`, which gives the hashes of complete subtrees; where they are kept is the store's.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256().digest()
MOST_LEAVES = 1 << 62

Nodes: TypeAlias = Callable[[int, int], bytes]
"""Given a level and an index, the hash of the complete subtree of 2**level leaves that begins at index * 2**level."""


class ProofError(Exception):
    """What is claimed of the tree does not follow from the hashes."""


def leaf_hash(line: bytes) -> bytes:
    """The hash of a record's line."""
    return hashlib.sha256(b"\0" + line).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees, side by side."""
    return hashlib.sha256(b"\1" + left + right).digest()


def peaks(size: int) -> Iterator[tuple[int, int]]:
    """The complete subtrees that a tree of `size` leaves falls into, as (level, index), from the left."""
    begin = 0
    for level in reversed(range(size.bit_length())):
        if size >> level & 1:
            yield level, begin >> level
            begin += 1 << level


def fold(hashes: Sequence[bytes]) -> bytes:
    """The hash over complete subtrees that stand side by side, the largest first, as `peaks` has them."""
    if not hashes:
        return EMPTY_ROOT
    *left, root = hashes
    for one in reversed(left):
        root = node_hash(one, root)
    return root


def root(size: int, nodes: Nodes) -> bytes:
    """The root of the tree's first `size` leaves."""
    return fold([nodes(level, index) for level, index in peaks(size)])


def inclusion(index: int, size: int, nodes: Nodes) -> list[bytes]:
    """The proof that leaf `index` is in the tree of `size` leaves (RFC 9162, 2.1.3.1). Raises ValueError."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    return _path(index, 0, size, nodes)


def _path(index: int, begin: int, size: int, nodes: Nodes) -> list[bytes]:
    if size == 1:
        return []
    half = split(size)
    if index < half:
        return [*_path(index, begin, half, nodes), span(begin + half, size - half, nodes)]
    return [*_path(index - half, begin + half, size - half, nodes), span(begin, half, nodes)]


def consistency(old: int, new: int, nodes: Nodes) -> list[bytes]:
    """The proof that the tree of `new` leaves begins with the one of `old` (RFC 9162, 2.1.4.1). Raises ValueError."""
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} leaves does not begin with {old}")
    return [] if old in (0, new) else _subproof(old, 0, new, nodes, whole=True)


def _subproof(old: int, begin: int, size: int, nodes: Nodes, *, whole: bool) -> list[bytes]:
    if old == size:
        return [] if whole else [span(begin, size, nodes)]
    half = split(size)
    if old <= half:
        return [*_subproof(old, begin, half, nodes, whole=whole), span(begin + half, size - half, nodes)]
    return [*_subproof(old - half, begin + half, size - half, nodes, whole=False), span(begin, half, nodes)]


def span(begin: int, size: int, nodes: Nodes) -> bytes:
    """The hash over `size` leaves from `begin` on, which is a multiple of a power of two that is not less than size."""
    return fold([nodes(level, index + (begin >> level)) for level, index in peaks(size)])


def split(size: int) -> int:
    """The largest power of two that is less than `size`."""
    half: int = 1 << (size - 1).bit_length() - 1
    return half


def verify_inclusion(line: bytes, index: int, size: int, proof: Sequence[bytes], root_hash: bytes) -> None:
    """Check that `line` is leaf `index` of the tree of `size` leaves with this root (RFC 9162, 2.1.3.2).

    Raises ProofError.
    """
    if not 0 <= index < size <= MOST_LEAVES:
        raise ProofError(f"a tree of {size} leaves has no leaf {index}")
    place, last, found = index, size - 1, leaf_hash(line)
    for other in _checked(proof):
        if not last:
            raise ProofError("the proof is longer than the tree is high")
        if place & 1 or place == last:
            found = node_hash(other, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, other)
        place, last = place >> 1, last >> 1
    if last or found != root_hash:
        raise ProofError(f"record {index} is not in the tree of {size}")


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Check that the tree of `new` leaves has all of the one of `old` (RFC 9162, 2.1.4.2). Raises ProofError."""
    if not 0 <= old <= new <= MOST_LEAVES:
        raise ProofError(f"a tree of {new} leaves cannot begin with one of {old}")
    if old in (0, new):
        _check_trivial(old, new, proof, old_root, new_root)
        return
    if (old_root, new_root) != _both_roots(old, new, list(_checked(proof)), old_root):
        raise ProofError(f"the tree of {new} leaves does not have all of the one of {old}")


def _check_trivial(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    if old == new and (proof or old_root != new_root):
        raise ProofError(f"two trees of {new} leaves differ")
    if old == 0 and (proof or old_root != EMPTY_ROOT):
        raise ProofError("the empty tree has another root")


def _both_roots(old: int, new: int, hashes: list[bytes], old_root: bytes) -> tuple[bytes, bytes]:
    """The roots that the proof leads to, of the older tree and of the newer one."""
    if not old & (old - 1):
        hashes.insert(0, old_root)
    if not hashes:
        raise ProofError("the proof is empty")
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    found_old = found_new = hashes[0]
    for other in hashes[1:]:
        if not last:
            raise ProofError("the proof is longer than the tree is high")
        if place & 1 or place == last:
            found_old, found_new = node_hash(other, found_old), node_hash(other, found_new)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found_new = node_hash(found_new, other)
        place, last = place >> 1, last >> 1
    if last:
        raise ProofError("the proof is shorter than the tree is high")
    return found_old, found_new


def _checked(proof: Sequence[bytes]) -> Iterator[bytes]:
    for one in proof:
        if len(one) != HASH_BYTES:
            raise ProofError("a hash in the proof has another length")
        yield one
