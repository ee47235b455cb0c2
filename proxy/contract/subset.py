"""One proof for many leaves of the log at once, a session's for instance. Pure.

It lists the hashes of the largest parts of the tree that hold none of the leaves, from the left. With the leaves' own
hashes they lead to the root, so where that is the one in a signed head, every one of those hashes is proven together
with its place: each record can then be held against its own, and the first bad one be named.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from proxy.contract.merkle import EMPTY_ROOT, HASH_BYTES, MOST_LEAVES, Nodes, ProofError, node_hash, span, split


def prove(leaves: Sequence[int], size: int, nodes: Nodes) -> list[bytes]:
    """The proof that the tree of `size` leaves has these, in rising order. Raises ValueError for others."""
    _check(leaves, size)
    proof: list[bytes] = []

    def walk(begin: int, count: int, first: int, last: int) -> None:
        """Over `count` leaves from `begin` on, of which `leaves[first:last]` are wanted."""
        if first == last:
            proof.append(span(begin, count, nodes))
        elif count > 1:
            half = split(count)
            middle = bisect_left(leaves, begin + half, first, last)
            walk(begin, half, first, middle)
            walk(begin + half, count - half, middle, last)

    if size:
        walk(0, size, 0, len(leaves))
    return proof


def root_of(leaves: Sequence[int], hashes: Sequence[bytes], size: int, proof: Sequence[bytes]) -> bytes:
    """The root that the proof and the hashes of these leaves lead to. Raises ProofError where it cannot be a proof."""
    try:
        _check(leaves, size)
    except ValueError as error:
        raise ProofError(str(error)) from error
    if len(hashes) != len(leaves) or any(len(one) != HASH_BYTES for one in (*hashes, *proof)):
        raise ProofError("the proof is malformed")
    rest = iter(proof)

    def walk(begin: int, count: int, first: int, last: int) -> bytes:
        if first == last:
            if (other := next(rest, None)) is None:
                raise ProofError("the proof is too short")
            return other
        if count == 1:
            return hashes[first]
        half = split(count)
        middle = bisect_left(leaves, begin + half, first, last)
        left = walk(begin, half, first, middle)
        return node_hash(left, walk(begin + half, count - half, middle, last))

    root = walk(0, size, 0, len(leaves)) if size else EMPTY_ROOT
    if next(rest, None) is not None:
        raise ProofError("the proof is too long")
    return root


def _check(leaves: Sequence[int], size: int) -> None:
    if not 0 <= size <= MOST_LEAVES:
        raise ValueError(f"no tree has {size} leaves")
    if any(one >= other for one, other in pairwise(leaves)):
        raise ValueError("the leaves are not in rising order")
    if leaves and not 0 <= leaves[0] <= leaves[-1] < size:
        raise ValueError(f"a tree of {size} leaves has not all of these")
