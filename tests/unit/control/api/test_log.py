"""The log through the API: heads, proofs, tiles; and what was done to the store behind its back."""

import base64
import itertools
import sqlite3
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from control.keys import KeyRingError
from control.log_key import LogKey
from proxy.contract import checkpoint, merkle, subset
from proxy.contract.checkpoint import Checkpoint
from tests.unit.control.desk import Desk, Edge

ORIGIN = "control.example"


async def key_of(desk: Desk) -> Ed25519PublicKey:
    """The log's key, as its verifier key says it."""
    origin, _, key = (await desk.call(None, "GET", "/v1/log/key")).text.strip().split("+", 2)
    assert origin == ORIGIN
    return Ed25519PublicKey.from_public_bytes(base64.b64decode(key)[1:])


async def head(desk: Desk) -> Checkpoint:
    """The head of now, its signature checked."""
    desk.clock.pass_(2)
    answer = await desk.call(None, "GET", "/v1/log/checkpoint")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    return checkpoint.verify(answer.text, await key_of(desk), origin=ORIGIN)


def hashes(texts: list[str]) -> list[bytes]:
    """A proof's."""
    return [base64.b64decode(text) for text in texts]


def tamper(desk: Desk, *statements: str) -> None:
    """Edit the books behind the service's back."""
    with sqlite3.connect(desk.services.settings.database) as books:
        for statement in statements:
            assert books.execute(statement).rowcount
    books.close()


async def test_an_empty_log_has_a_head_too(desk: Desk) -> None:
    """Whoever keeps it has the beginning."""
    assert await head(desk) == Checkpoint(origin=ORIGIN, size=0, root=merkle.EMPTY_ROOT)


async def test_a_head_has_all_that_was_acknowledged(desk: Desk, edge: Edge) -> None:
    """And each record is proven to be in it, one by one and a session's all at once."""
    lines = edge.session("ses_1", statements=3)
    await edge.ship(*edge.session("ses_0"), *lines[:5])
    await edge.ship(*edge.session("ses_2"), *lines)
    found = await head(desk)
    assert found.size == 16
    for seq, line in enumerate(lines):
        path = f"/v1/log/inclusion?session=ses_1&seq={seq}&size=16"
        proof = await desk.ok("eve", "GET", path)
        merkle.verify_inclusion(line, proof["leaf"], 16, hashes(proof["hashes"]), found.root)
    whole = await desk.ok("eve", "GET", "/v1/log/session?session=ses_1&size=16")
    assert whole["leaves"] == [[4, 5], [13, 3]]
    assert root_of(whole, lines) == found.root


def root_of(proof: dict[str, Any], lines: list[bytes]) -> bytes:
    """Where a session's proof leads with these lines."""
    leaves = [leaf for first, count in proof["leaves"] for leaf in range(first, first + count)]
    raw = base64.b64decode(proof["proof"])
    own = [merkle.leaf_hash(line) for line in lines]
    assert base64.b64decode(proof["hashes"]) == b"".join(own)
    return subset.root_of(leaves, own, proof["size"], [raw[at : at + 32] for at in range(0, len(raw), 32)])


async def test_newer_heads_have_what_older_ones_had(desk: Desk, edge: Edge) -> None:
    """By a proof; where nothing has come, the head is the same."""
    heads = [await head(desk)]
    for number in range(3):
        await edge.ship(*edge.session(f"ses_{number}"))
        heads += [await head(desk), await head(desk)]
    assert [one.size for one in heads] == [0, 4, 4, 8, 8, 12, 12]
    for old, new in itertools.pairwise(heads):
        proof = await desk.ok("ada", "GET", f"/v1/log/consistency?old={old.size}&new={new.size}")
        merkle.verify_consistency(old.size, new.size, hashes(proof["hashes"]), old.root, new.root)


async def test_heads_are_signed_once_in_a_second(desk: Desk, edge: Edge) -> None:
    """However many ask: each is a row that stays."""
    desk.clock.ahead = 0
    first = await desk.call(None, "GET", "/v1/log/checkpoint")
    await edge.ship(*edge.session("ses_1"))
    began = desk.clock()
    second = await desk.call(None, "GET", "/v1/log/checkpoint")
    assert first.text != second.text
    with sqlite3.connect(desk.services.settings.database) as books:
        one, other = [row[0] for row in books.execute("SELECT signed_at FROM heads ORDER BY size")]
    books.close()
    assert other - one >= 1_000_000_000
    assert other - began < 2_000_000_000


async def test_who_may_see_proofs(desk: Desk, edge: Edge) -> None:
    """A session's: who may read its records. The tree: auditors; consistency: everybody who is known."""
    await edge.ship(*edge.session("ses_1", person="ada"))
    for path in ("inclusion?session=ses_1&seq=0&size=4", "session?session=ses_1&size=4"):
        got = [(await desk.call(who, "GET", f"/v1/log/{path}")).status_code for who in ("ada", "eve", "bob", None)]
        assert got == [200, 200, 404, 401]
    assert (await desk.call("carol", "GET", "/v1/log/session?session=ses_1&size=4")).status_code == 404
    assert (await desk.call("ada", "GET", "/v1/log/tile/0/000")).status_code == 403
    assert (await desk.call(None, "GET", "/v1/log/consistency?old=0&new=1")).status_code == 401


async def test_what_cannot_be_proven(desk: Desk, edge: Edge) -> None:
    """Trees that are not there yet, records that there are not."""
    await edge.ship(*edge.session("ses_1"))
    for path, status in (
        ("inclusion?session=ses_1&seq=4&size=4", 404),
        ("inclusion?session=ses_9&seq=0&size=4", 404),
        ("inclusion?session=ses_1&seq=3&size=3", 422),
        ("inclusion?session=ses_1&seq=3&size=5", 422),
        ("session?session=ses_1&size=5", 422),
        ("consistency?old=3&new=2", 422),
        ("consistency?old=3&new=5", 422),
        ("consistency?old=-1&new=5", 422),
    ):
        assert (await desk.call("eve", "GET", f"/v1/log/{path}")).status_code == status, path


async def test_tiles_are_where_tools_look_for_them(desk: Desk, edge: Edge) -> None:
    """As tlog-tiles has it: full ones without a width, others with what they have at least."""
    lines = edge.session("ses_1", statements=150)
    await edge.ship(*lines)
    leaves = [merkle.leaf_hash(line) for line in lines]
    for path, expected in (
        ("0/000", leaves[:256]),
        ("0/001.p/46", leaves[256:302]),
        ("0/001.p/1", leaves[256:257]),
        ("0/000.p/2", leaves[:2]),
    ):
        assert (await desk.call("eve", "GET", f"/v1/log/tile/{path}")).content == b"".join(expected), path
    for path in ("0/001", "0/001.p/47", "0/002", "0/1", "0/000.p/0", "8/000", "-1/000", "0/x001/000", "0/001.p/999"):
        assert (await desk.call("eve", "GET", f"/v1/log/tile/{path}")).status_code == 404, path
    assert (await desk.call("eve", "GET", "/v1/log/tile/0/" + "x999/" * 9 + "999")).status_code == 404


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE tiles SET hashes = substr(hashes, 1, 96)", "rolled back"),
        ("UPDATE tiles SET hashes = zeroblob(length(hashes))", "rewritten"),
    ],
)
async def test_nothing_is_signed_that_contradicts_what_was(desk: Desk, edge: Edge, statement: str, why: str) -> None:
    """Not even by the service that has the key: the store was changed under it."""
    await edge.ship(*edge.session("ses_1"))
    await head(desk)
    tamper(desk, statement)
    if why == "rewritten":
        await edge.ship(*edge.session("ses_2"))
    desk.clock.pass_(2)
    answer = await desk.call(None, "GET", "/v1/log/checkpoint")
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:curfew:problem:log-damaged")
    assert why in answer.json()["detail"]


async def test_a_damaged_tree_is_said_to_be_one(desk: Desk, edge: Edge) -> None:
    """By every proof that needs what is gone."""
    await edge.ship(*edge.session("ses_1", statements=200))
    size = (await head(desk)).size
    tamper(desk, "DELETE FROM tiles WHERE level = 0 AND number = 0")
    for path in (f"session?session=ses_1&size={size}", f"consistency?old=3&new={size}"):
        assert (await desk.call("eve", "GET", f"/v1/log/{path}")).json()["type"] == "urn:curfew:problem:log-damaged"


async def test_the_key_is_made_once_and_missed(desk: Desk) -> None:
    """Where it has signed, another one is not made; one that others can read, or another's, is not taken."""
    note = (await desk.call(None, "GET", "/v1/log/checkpoint")).text
    path = desk.services.log_key.path
    assert path.stat().st_mode & 0o777 == 0o600
    LogKey(path.parent, ORIGIN).load(note)
    path.chmod(0o644)
    with pytest.raises(KeyRingError, match="chmod 600"):
        LogKey(path.parent, ORIGIN).load(note)
    path.unlink()
    with pytest.raises(KeyRingError, match="put the key back from your backup"):
        LogKey(path.parent, ORIGIN).load(note)
    LogKey(path.parent, "another.log").load(None)
    with pytest.raises(KeyRingError, match="has not signed the heads"):
        LogKey(path.parent, ORIGIN).load(note)
    path.write_text("nothing")
    with pytest.raises(KeyRingError, match="not a private key"):
        LogKey(path.parent, ORIGIN).load(None)
