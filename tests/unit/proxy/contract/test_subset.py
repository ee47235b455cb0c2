"""One proof for many leaves: it leads to the root from the right hashes in the right places, and from no others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.contract import merkle, subset
from proxy.contract.merkle import ProofError
from tests.unit.proxy.contract.test_merkle import MOST, Tree, lines


@given(st.data())
def test_a_proof_leads_to_the_root(data: st.DataObject) -> None:
    """For any leaves of any tree, none and all among them; changed in any way it does not."""
    size = data.draw(st.integers(0, MOST))
    leaves = sorted(data.draw(st.sets(st.integers(0, size - 1)))) if size else []
    tree = Tree(lines(size))
    root, hashes = merkle.root(size, tree), [tree(0, leaf) for leaf in leaves]
    proof = subset.prove(leaves, size, tree)
    assert subset.root_of(leaves, hashes, size, proof) == root
    other = merkle.leaf_hash(b"forged")
    for at in range(len(leaves)):
        assert subset.root_of(leaves, [*hashes[:at], other, *hashes[at + 1 :]], size, proof) != root
    if leaves and size > 1:
        with pytest.raises(ProofError):
            subset.root_of(leaves, hashes, size, [*proof, other])
    if proof and leaves:
        with pytest.raises(ProofError, match="too short"):
            subset.root_of(leaves, hashes, size, proof[:-1])


def test_a_proof_is_short_where_leaves_stand_side_by_side() -> None:
    """As a session's records mostly do."""
    assert len(subset.prove(range(16, 48), 64, Tree(lines(64)))) == 2


@pytest.mark.parametrize(
    ("leaves", "size"), [([2, 1], 3), ([1, 1], 3), ([3], 3), ([-1], 3), ([], -1), ([0], merkle.MOST_LEAVES + 1)]
)
def test_what_no_tree_has(leaves: list[int], size: int) -> None:
    """Places that are no places: an error for who makes a proof, a bad proof for who checks it."""
    with pytest.raises(ValueError, match="leaves"):
        subset.prove(leaves, size, Tree(lines(3)))
    with pytest.raises(ProofError):
        subset.root_of(leaves, [bytes(32)] * len(leaves), size, [])


def test_malformed_hashes() -> None:
    """Too few, and of another length."""
    for hashes, proof in (([], [bytes(32)]), ([b"short"], [bytes(32)]), ([bytes(32)], [b"short"])):
        with pytest.raises(ProofError, match="malformed"):
            subset.root_of([0], hashes, 2, proof)
