"""Proxies through the API: joining, proving who they are, following directives, sending records."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator

import jwt
import pytest

from control.evidence.chain import Kind
from control.operations import proxies
from control.services import REPLAYS
from control.tasks import spawn
from control.times import SECOND
from proxy.contract import proof
from proxy.contract.directive import AnyDirective, Heartbeat, Keys, Kill, Revoke, Snapshot
from proxy.contract.record import Chain
from proxy.contract.token import KeySet
from tests.unit.control.desk import AUDIENCE, ISSUER, Desk, Edge, statement

LINE = b"{}\n"


async def join_token(desk: Desk, **wanted: str) -> str:
    """A join token."""
    made: str = (await desk.ok("root", "POST", "/v1/proxies/join-tokens", wanted))["join_token"]
    return made


async def test_a_proxy_joins(desk: Desk) -> None:
    """It learns whom to trust, and is listed with its key."""
    edge = Edge(desk, "edge-1")
    joined = (await edge.join(await join_token(desk))).json()
    assert (joined["issuer"], joined["audience"], len(KeySet.from_jwks(joined["jwks"]))) == (ISSUER, AUDIENCE, 1)
    (listed,) = (await desk.ok("root", "GET", "/v1/proxies"))["items"]
    public = proof.public_text(edge.key.public_key())
    assert listed == listed | {"name": "edge-1", "public_key": public, "public_keys": [public], "connected": False}


async def test_auditors_get_the_keys_that_records_are_verified_with(desk: Desk) -> None:
    """`curfew verify` was refused to the very people it is for; those who read no records need no keys."""
    await desk.edge("edge-1")
    listed = (await desk.ok("root", "GET", "/v1/proxies"))["items"]
    assert (await desk.ok("eve", "GET", "/v1/proxies"))["items"] == listed
    for who in ("ada", "carol"):
        assert (await desk.call(who, "GET", "/v1/proxies")).status_code == 403
    assert (await desk.call(None, "GET", "/v1/proxies")).status_code == 401


async def test_a_join_token_is_good_once_for_an_hour(desk: Desk) -> None:
    """Not again, not later, not another one; and its text is not kept."""
    token = await join_token(desk)
    assert token.encode() not in desk.services.settings.database.read_bytes()
    assert (await Edge(desk, "one").join(token)).is_success
    late = await join_token(desk)
    for bad in (token, late, "cfj_" + "A" * 43, ""):
        desk.clock.pass_(3_600 if bad == late else 0)
        refused = await Edge(desk, "two").join(bad)
        assert (refused.status_code, refused.json()["type"]) == (403, "urn:curfew:problem:bad-join-token")


async def test_a_name_is_not_taken_over(desk: Desk) -> None:
    """Another key for a name that has joined takes a token for that very name; the old key proves what it signed."""
    first, second = await desk.edge("edge"), Edge(desk, "edge")
    anyones = await join_token(desk)
    assert (await second.join(anyones)).status_code == 409
    assert (await Edge(desk, "edge").join(await join_token(desk, proxy="other"))).status_code == 403
    assert (await first.join(anyones)).is_success, "the refusal has not used it up, and the same key may join again"
    lines = first.session("s1")
    assert (await first.ship(*lines[:2])).is_success
    assert (await second.join(await join_token(desk, proxy="edge"))).is_success
    assert (await first.ship(*lines[2:])).status_code == 401
    assert (await second.ship(*lines[2:])).json() == {"stored": 2, "known": 0}
    keys = (await desk.ok("root", "GET", "/v1/proxies"))["items"][0]["public_keys"]
    assert keys == [proof.public_text(edge.key.public_key()) for edge in (second, first)]


@pytest.mark.parametrize("name", ["", "Edge", "a b", "\ud800", "x" * 64])
async def test_a_join_token_for_nobody(desk: Desk, name: str) -> None:
    """No proxy can have this name."""
    assert (await desk.call("root", "POST", "/v1/proxies/join-tokens", {"proxy": name})).status_code == 422


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "Edge"},
        {"name": ""},
        {"name": "a b"},
        {"public_key": "short"},
        {"public_key": "é"},
        {"more": 1},
        {"name": 5},
    ],
)
async def test_a_bad_joining_uses_nothing_up(desk: Desk, changed: dict[str, object]) -> None:
    """It is said what is wrong, and the token is still good."""
    token = await join_token(desk)
    edge = Edge(desk, "edge")
    body = {"name": "edge", "join_token": token, "public_key": proof.public_text(edge.key.public_key())}
    refused = await desk.call(None, "POST", "/v1/proxies/join", body | changed)
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:curfew:problem:invalid")
    assert (await edge.join(token)).is_success


async def test_a_proof_is_for_one_request(desk: Desk, edge: Edge) -> None:
    """Not for another body, path, method or proxy; not again; not early or late; each answer is the same."""
    body = b"".join(line + b"\n" for line in edge.session("s1"))
    good = edge.signed("POST", "/v1/records", body)
    claims: dict[str, object] = {
        "iss": "edge",
        "aud": proof.PROOF_AUDIENCE,
        "htm": "POST",
        "htu": "/v1/records",
        "jti": "x",
    }
    now = desk.clock() // SECOND
    claims |= {"bsh": hashlib.sha256(body).hexdigest(), "iat": now, "exp": now + 60}

    def forged(**changed: object) -> dict[str, str]:
        typ = {"typ": str(changed.pop("typ", proof.PROOF_TYPE))}
        made = jwt.PyJWS().encode(json.dumps(claims | changed).encode(), edge.key, algorithm="EdDSA", headers=typ)
        return {"authorization": f"{proof.SCHEME} {made}"}

    stranger = Edge(desk, "edge")
    bad = [
        {},
        {"authorization": "Curfew-Proof"},
        {"authorization": "Curfew-Proof garbage"},
        {"authorization": f"Bearer {desk.api_keys['root']}"},
        edge.signed("POST", "/v1/records", body + b"\n"),
        edge.signed("POST", "/v1/records?x=1", body),
        edge.signed("GET", "/v1/records", body),
        stranger.signed("POST", "/v1/records", body),
        Edge(desk, "nobody").signed("POST", "/v1/records", body),
        forged(iss="\ud800"),
        forged(iss=5),
        forged(typ="JWT"),
        forged(aud="other"),
        forged(iat=now - 61, exp=now - 1),
        forged(iat=now + 120, exp=now + 180),
        forged(exp=now + 600),
        forged(jti="j" * 65),
        forged(jti=5),
        forged(bsh=None),
    ]
    answers = [await desk.http.post("/v1/records", content=body, headers=headers) for headers in bad]
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.headers["www-authenticate"] for answer in answers} == {"Curfew-Proof"}
    assert not (await desk.ok("root", "GET", "/v1/sessions"))["items"]
    assert (await desk.http.post("/v1/records", content=body, headers=good)).is_success
    assert (await desk.http.post("/v1/records", content=body, headers=good)).status_code in (401, 429)


async def test_too_many_proofs_are_refused(desk: Desk, edge: Edge) -> None:
    """The memory of proofs is bounded, and full it admits nobody."""
    now = desk.clock() / SECOND
    assert all(desk.services.replays.admit("edge", str(number), now) for number in range(REPLAYS))
    assert (await edge.ship(*edge.session("s1"))).status_code == 401


async def test_records_are_stored_as_they_came(desk: Desk, edge: Edge) -> None:
    """Byte for byte; again they are known; the summary is there."""
    lines = edge.session("s1", statements=3)
    assert (await edge.ship(*lines)).json() == {"stored": 8, "known": 0}
    assert (await edge.ship(*lines)).json() == {"stored": 0, "known": 8}
    got = await desk.call("eve", "GET", "/v1/sessions/s1/records")
    assert got.headers["content-type"] == "application/x-ndjson"
    assert got.content == b"".join(line + b"\n" for line in lines)
    assert (await desk.call("eve", "GET", "/v1/sessions/s1/records?after=5")).content == b"".join(
        line + b"\n" for line in lines[6:]
    )
    session = await desk.ok("eve", "GET", "/v1/sessions/s1")
    assert session == session | {
        "id": "s1",
        "person": "ada",
        "proxy": "edge",
        "state": "ended",
        "end_reason": "closed",
        "outcome": "nothing open",
        "statements": 3,
        "records": 8,
        "bytes_in": 100,
        "stop_s": 0.25,
        "decided_at": "1970-01-01T00:00:01.000000Z",
        "gone_at": "1970-01-01T00:00:01.250000Z",
        "faults": 0,
    }


async def test_a_fault_is_told_and_kept_and_others_are_not_kept_out(desk: Desk, edge: Edge) -> None:
    """A session with a gap beside a good one: 409, the good one is stored, the gap's line is a fault, once."""
    good, broken = edge.session("good"), edge.session("broken")
    for stored in (4, 0):
        refused = await edge.ship(broken[0], *good, *broken[2:])
        problem = refused.json()
        assert (refused.status_code, problem["type"]) == (409, "urn:curfew:problem:record-fault")
        assert problem["stored"] == stored + bool(stored)
        assert problem["faults"] == [{"session": "broken", "seq": "2", "kind": Kind.GAP, "detail": "expected record 1"}]
    assert (await desk.ok("eve", "GET", "/v1/sessions/good"))["state"] == "ended"
    broken_one = await desk.ok("eve", "GET", "/v1/sessions/broken")
    assert (broken_one["state"], broken_one["records"], broken_one["faults"]) == ("open", 1, 1)
    (fault,) = (await desk.ok("eve", "GET", "/v1/faults"))["items"]
    assert fault == fault | {"proxy": "edge", "session": "broken", "seq": "2", "kind": "gap"}
    assert (await edge.ship(*broken)).is_success, "what was missing may still come"


async def test_other_bytes_under_a_known_number_are_a_fault(desk: Desk, edge: Edge) -> None:
    """Somebody rewrites the past."""
    lines = edge.session("s1")
    assert (await edge.ship(*lines)).is_success
    refused = await edge.ship(lines[1].replace(b"SELECT 1", b"SELECT 2"))
    assert (refused.status_code, refused.json()["faults"][0]["kind"]) == (409, "rewritten")
    assert (await desk.call("eve", "GET", "/v1/sessions/s1/records")).content.splitlines() == lines


async def test_a_proxy_writes_its_own_sessions_only(desk: Desk, edge: Edge) -> None:
    """Neither another's stored one, nor a new one in another's name; and it learns nothing of them."""
    other = await desk.edge("other")
    lines = edge.session("s1")
    assert (await edge.ship(*lines[:2])).is_success
    for attempt in (lines[:1], lines[2:3], edge.session("s2")):
        refused = await other.ship(*attempt)
        assert (refused.status_code, refused.json()["faults"][0]["kind"]) == (409, "foreign")
    assert (await desk.ok("eve", "GET", "/v1/sessions/s1"))["faults"] == 0
    assert (await desk.call("eve", "GET", "/v1/sessions/s2")).status_code == 404
    assert (await edge.ship(*lines)).json() == {"stored": 2, "known": 2}


async def test_what_is_no_record_waits_for_somebody(desk: Desk, edge: Edge) -> None:
    """422, not 409: it may be a newer version's; what came before it is stored."""
    lines = edge.session("s1")
    refused = await edge.ship(lines[0], b'{"type":"new.kind"}', lines[1])
    assert (refused.status_code, refused.json()["stored"]) == (422, 1)
    assert (await desk.ok("eve", "GET", "/v1/faults"))["items"][0]["kind"] == "malformed"


async def test_a_batch_is_bounded_and_one_record_is_not(desk: Desk, edge: Edge) -> None:
    """4 MiB of several records; a single larger one must have its way in, or the journal would stand still."""
    chain = Chain("s1")
    first, wide = chain.seal(edge.start()), chain.seal(statement(1, "x" * 5_000_000)[0])
    refused = await edge.ship(first, wide)
    assert (refused.status_code, refused.json()["type"]) == (413, "urn:curfew:problem:content-too-large")
    assert (await edge.ship(first)).is_success
    assert (await edge.ship(wide)).json() == {"stored": 1, "known": 0}
    timeline = (await desk.ok("eve", "GET", "/v1/sessions/s1/timeline"))["items"]
    assert len(timeline[1]["sql"]) == 5_000_000


async def test_an_empty_body_is_taken(edge: Edge) -> None:
    """Nothing to say is no fault."""
    assert (await edge.ship()).json() == {"stored": 0, "known": 0}


class Follower:
    """Somebody who follows the directives."""

    def __init__(self, desk: Desk, after: int = 0) -> None:
        self._source: AsyncIterator[AnyDirective] = proxies.follow(desk.services, "edge", after)

    async def next(self) -> AnyDirective:
        """The next directive, heartbeats too."""
        async with asyncio.timeout(10):
            return await anext(self._source)

    async def close(self) -> None:
        """Hang up."""
        await self._source.aclose()  # type: ignore[attr-defined] # it is a generator


async def test_the_stream_begins_with_all_that_is_in_force(desk: Desk, edge: Edge) -> None:
    """Revocations of grants that would still live, and the key set; then a heartbeat."""
    over, live = await desk.grant(duration_s=5), await desk.grant()
    for grant in (over, live):
        await desk.ok("carol", "POST", f"/v1/grants/{grant}/revoke", {"reason": "x"})
    desk.clock.pass_(5)
    follower = Follower(desk)
    snapshot = await follower.next()
    assert isinstance(snapshot, Snapshot)
    assert [(one.grant, one.by) for one in snapshot.revoked] == [(live, "carol")]
    assert len(KeySet.from_jwks(snapshot.jwks)) == 1
    heartbeat = await follower.next()
    assert heartbeat == Heartbeat(cursor=snapshot.cursor, at=heartbeat.at)
    assert desk.services.presence.connected(edge.name)
    await follower.close()
    assert not desk.services.presence.connected(edge.name)


async def test_a_directive_wakes_the_stream(desk: Desk, edge: Edge) -> None:
    """A revocation, a kill, a rotation: each in its order, before the next heartbeat is due."""
    await edge.ship(edge.session("s1")[0])
    grant = await desk.grant()
    follower = Follower(desk)
    snapshot, _ = await follower.next(), await follower.next()
    waiting = spawn("next", follower.next())
    await asyncio.sleep(0)
    await desk.ok("carol", "POST", f"/v1/grants/{grant}/revoke", {"reason": "over"})
    revoke = await waiting
    assert isinstance(revoke, Revoke)
    assert revoke == Revoke(
        cursor=snapshot.cursor + 1,
        at=revoke.at,
        grant=grant,
        expires_at=revoke.expires_at,
        by="carol",
        reason="over",
    )
    killed = await desk.call("carol", "POST", "/v1/sessions/s1/kill", {"reason": "now"})
    assert killed.status_code == 202
    kill = await follower.next()
    assert kill == Kill(cursor=snapshot.cursor + 2, at=kill.at, session="s1", by="carol", reason="now")
    await desk.ok("root", "POST", "/v1/keys/rotate")
    keys = await follower.next()
    assert isinstance(keys, Keys)
    assert len(KeySet.from_jwks(keys.jwks)) == 2
    await follower.close()


async def test_what_was_missed_comes_again(desk: Desk, edge: Edge) -> None:
    """Behind the snapshot, kills too, which no snapshot has; the snapshot's cursor does not skip them."""
    await edge.ship(edge.session("s1")[0])
    first = Follower(desk)
    cursor = (await first.next()).cursor
    await first.close()
    await desk.call("carol", "POST", "/v1/sessions/s1/kill", {"reason": "now"})
    for after in (cursor, cursor):
        follower = Follower(desk, after)
        snapshot, kill = await follower.next(), await follower.next()
        assert snapshot.cursor == cursor
        assert isinstance(kill, Kill)
        await follower.close()


async def test_a_cursor_from_the_future_is_forgotten(desk: Desk) -> None:
    """The books were restored from an older copy: what they have is what counts."""
    follower = Follower(desk, 2**63 - 1)
    snapshot = await follower.next()
    assert snapshot.cursor < 10
    await follower.close()


async def test_the_stream_ends_with_the_service(desk: Desk) -> None:
    """At once, also while it waits for its next heartbeat."""
    follower = Follower(desk)
    await follower.next()
    await follower.next()
    waiting = spawn("next", follower.next())
    await asyncio.sleep(0)
    desk.services.stop()
    async with asyncio.timeout(1):
        with pytest.raises(StopAsyncIteration):
            await follower._source.__anext__() if waiting.done() else await waiting


async def test_a_revocation_that_fails_tells_nobody(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It and its directive are one transaction: where the directive cannot be written, the grant is not revoked."""

    async def broken(*_: object) -> None:
        raise OSError("the disk is full")

    grant = await desk.grant()
    monkeypatch.setattr("control.store.directives.add", broken)
    failed = await desk.call("carol", "POST", f"/v1/grants/{grant}/revoke", {"reason": "x"})
    assert failed.status_code == 500
    assert "disk" not in failed.text
    assert (await desk.ok("ada", "GET", f"/v1/grants/{grant}"))["state"] == "active"
