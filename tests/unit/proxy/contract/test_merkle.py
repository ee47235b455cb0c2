"""The Merkle tree: RFC 9162's own definition, the vectors of its predecessor, and proofs that are tampered with."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.contract import merkle
from proxy.contract.merkle import ProofError

# The eight leaves, and the roots of the trees over the first so many of them, of the tests of certificate-transparency
# (cpp/merkletree/merkle_tree_test.cc), which others use too.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
MOST = 70


def defined(lines: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, word for word."""
    if not lines:
        return hashlib.sha256(b"").digest()
    if len(lines) == 1:
        return hashlib.sha256(b"\0" + lines[0]).digest()
    k = 1
    while k * 2 < len(lines):
        k *= 2
    return hashlib.sha256(b"\1" + defined(lines[:k]) + defined(lines[k:])).digest()


class Tree:
    """A tree with all its complete subtrees."""

    def __init__(self, lines: list[bytes]) -> None:
        self.nodes: dict[tuple[int, int], bytes] = {}
        level, row = 0, [merkle.leaf_hash(line) for line in lines]
        while row:
            self.nodes |= {(level, index): one for index, one in enumerate(row)}
            row = [merkle.node_hash(left, right) for left, right in zip(row[::2], row[1::2], strict=False)]
            level += 1

    def __call__(self, level: int, index: int) -> bytes:
        """As `merkle.Nodes`."""
        return self.nodes[level, index]


def lines(count: int) -> list[bytes]:
    """So many."""
    return [b"line %d" % number for number in range(count)]


def test_known_roots() -> None:
    """Those of the certificate logs."""
    for size, expected in enumerate(ROOTS, start=1):
        tree = Tree(LEAVES[:size])
        assert merkle.root(size, tree).hex() == expected
    assert merkle.root(0, Tree([])) == merkle.EMPTY_ROOT


def test_every_tree_proves_every_leaf() -> None:
    """Up to MOST leaves; each older tree's root too, from the newest tree's nodes."""
    tree, all_lines = Tree(lines(MOST)), lines(MOST)
    for size in range(1, MOST + 1):
        root = defined(all_lines[:size])
        assert merkle.root(size, tree) == root
        for index in range(size):
            proof = merkle.inclusion(index, size, tree)
            merkle.verify_inclusion(all_lines[index], index, size, proof, root)


def test_every_tree_begins_with_every_older_one() -> None:
    """Up to MOST leaves."""
    tree, roots = Tree(lines(MOST)), [defined(lines(size)) for size in range(MOST + 1)]
    for new in range(MOST + 1):
        for old in range(new + 1):
            proof = merkle.consistency(old, new, tree)
            merkle.verify_consistency(old, new, proof, roots[old], roots[new])


@given(st.data())
def test_a_tampered_inclusion_is_found(data: st.DataObject) -> None:
    """Another line, place, size, root or proof."""
    size = data.draw(st.integers(1, MOST))
    index = data.draw(st.integers(0, size - 1))
    tree = Tree(lines(size))
    proof, root = merkle.inclusion(index, size, tree), merkle.root(size, tree)
    line = b"line %d" % index
    claims: list[tuple[bytes, int, list[bytes], bytes]] = [
        (b"forged", index, proof, root),
        (line, data.draw(st.integers(-1, size).filter(lambda one: one != index)), proof, root),
        (line, index, proof, hashlib.sha256(root).digest()),
        (line, index, [*proof, root], root),
        (line, index, [b"short", *proof], root),
    ]
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        claims += [(line, index, [*proof[:at], root, *proof[at + 1 :]], root), (line, index, proof[:-1], root)]
    for forged, place, other, claimed in claims:
        with pytest.raises(ProofError):
            merkle.verify_inclusion(forged, place, size, other, claimed)


@given(st.data())
def test_a_store_that_was_rewritten_is_found(data: st.DataObject) -> None:
    """One leaf of the older tree is another one in the newer: no proof that its keeper can make will do."""
    new = data.draw(st.integers(2, MOST))
    old = data.draw(st.integers(1, new))
    at = data.draw(st.integers(0, old - 1))
    honest, forged = lines(new), lines(new)
    forged[at] = b"forged"
    tree = Tree(forged)
    proof = merkle.consistency(old, new, tree)
    with pytest.raises(ProofError):
        merkle.verify_consistency(old, new, proof, defined(honest[:old]), merkle.root(new, tree))


@pytest.mark.parametrize(("old", "new"), [(2, 1), (-1, 3), (0, merkle.MOST_LEAVES + 1)])
def test_a_store_that_was_rolled_back_is_found(old: int, new: int) -> None:
    """A newer tree cannot be smaller."""
    with pytest.raises(ProofError, match="cannot begin"):
        merkle.verify_consistency(old, new, [], merkle.EMPTY_ROOT, merkle.EMPTY_ROOT)


def test_bad_questions() -> None:
    """Of the one who makes proofs."""
    tree = Tree(lines(3))
    with pytest.raises(ValueError, match="no leaf 3"):
        merkle.inclusion(3, 3, tree)
    with pytest.raises(ValueError, match="does not begin with 4"):
        merkle.consistency(4, 3, tree)


def test_trees_of_one_size_that_differ() -> None:
    """No proof is needed to see it, and none helps."""
    one, other = defined(lines(3)), defined(lines(4)[1:])
    with pytest.raises(ProofError, match="differ"):
        merkle.verify_consistency(3, 3, [], one, other)
    with pytest.raises(ProofError, match="another root"):
        merkle.verify_consistency(0, 3, [], one, other)
    with pytest.raises(ProofError, match="empty"):
        merkle.verify_consistency(3, 5, [], one, other)


def test_a_consistency_proof_that_is_too_short() -> None:
    """A head that claims more records than its root is over: the hashes fit, the size does not."""
    tree = Tree(lines(4))
    proof = merkle.consistency(2, 4, tree)
    merkle.verify_consistency(2, 4, proof, defined(lines(2)), defined(lines(4)))
    with pytest.raises(ProofError, match="shorter than the tree is high"):
        merkle.verify_consistency(2, 8, proof, defined(lines(2)), defined(lines(4)))
