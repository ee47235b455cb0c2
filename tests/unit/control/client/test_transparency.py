"""A proof from a hostile service or bundle: only the right one passes, and none does harm."""

import base64
from typing import Any

import pytest

from control.client.errors import ClientError
from control.client.transparency import LogFaultError, check_begins_with, prove_session
from proxy.contract import merkle, subset
from proxy.contract.checkpoint import Checkpoint
from tests.unit.proxy.contract.test_merkle import Tree, lines

TREE = Tree(lines(20))
HEAD = Checkpoint(origin="log", size=20, root=merkle.root(20, TREE))
LEAVES = [3, 4, 5, 9]


def answer(**changed: object) -> dict[str, Any]:
    """A session's proof as the service gives it."""
    good = {
        "size": 20,
        "leaves": [[3, 3], [9, 1]],
        "hashes": base64.b64encode(b"".join(TREE(0, leaf) for leaf in LEAVES)).decode(),
        "proof": base64.b64encode(b"".join(subset.prove(LEAVES, 20, TREE))).decode(),
    }
    return good | changed


def test_a_good_proof() -> None:
    """Gives the places and the hashes."""
    assert prove_session(answer(), HEAD) == (LEAVES, [TREE(0, leaf) for leaf in LEAVES])


@pytest.mark.parametrize(
    "changed",
    [
        {"size": 19},
        {"leaves": [[3, 4]]},
        {"leaves": [[3, 3], [8, 1]]},
        {"leaves": [[9, 1], [3, 3]]},
        {"leaves": [[3, 1 << 60], [9, 4 - (1 << 60)]]},
        {"leaves": [[-3, 4]]},
        {"leaves": [[17, 4]]},
        {"leaves": []},
        {"hashes": "no base64"},
        {"hashes": base64.b64encode(bytes(128)).decode()},
        {"proof": ""},
        {"proof": "AAAA"},
    ],
)
def test_a_bad_proof(changed: dict[str, object]) -> None:
    """Is none; a range that is longer than the log makes no list of its length."""
    with pytest.raises(LogFaultError, match="proof"):
        prove_session(answer(**changed), HEAD)


def test_what_is_no_answer() -> None:
    """In words."""
    with pytest.raises(ClientError, match="not what this version"):
        prove_session({"size": "20"}, HEAD)


def test_heads_that_contradict_each_other() -> None:
    """Both are shown: whoever has them has the evidence."""
    old = Checkpoint(origin="log", size=12, root=merkle.root(12, TREE))
    proof = [base64.b64encode(one).decode() for one in merkle.consistency(12, 20, TREE)]
    check_begins_with(HEAD, old, proof, "new", "old")
    forged = Checkpoint(origin="log", size=12, root=bytes(32))
    for head, before, hashes, named in (
        (HEAD, forged, proof, "REWRITTEN"),
        (HEAD, old, [], "REWRITTEN"),
        (HEAD, old, ["no base64"], "REWRITTEN"),
        (old, HEAD, [], "ROLLED BACK"),
    ):
        with pytest.raises(LogFaultError, match=named) as found:
            check_begins_with(head, before, hashes, "new", "old")
        assert found.value.contradicting == ["old", "new"]
