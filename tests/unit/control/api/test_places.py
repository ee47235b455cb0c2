"""Places through the API: a grant has so many sessions at once over all proxies, whatever is lost on the way."""

import asyncio

import httpx2
import msgspec
import pytest

from control.times import SECOND
from proxy.contract.places import MOST_LISTED, Present, Wanted
from proxy.contract.record import AuthRefused, Chain
from tests.unit.control.desk import Desk, Edge, end

TOO_MANY = Present(holder="h", run="r", known=0, sessions=["s"] * (MOST_LISTED + 1), alone=False)


async def post(edge: Edge, path: str, body: object) -> httpx2.Response:
    """One signed call."""
    content = msgspec.json.encode(body)
    return await edge.desk.http.post(path, content=content, headers=edge.signed("POST", path, content))


async def take(edge: Edge, grant: str, session: str, *, holder: str = "proxy", run: str = "r1") -> bool:
    """Whether the session gets a place."""
    wanted = Wanted(session=session, holder=holder, run=run)
    response = await post(edge, f"/v1/grants/{grant}/places", wanted)
    assert response.is_success, response.text
    answer: dict[str, int] = response.json()
    assert bool(answer["number"]) is answer["admitted"]
    return bool(answer["admitted"])


async def tell(
    edge: Edge, *sessions: str, known: int, holder: str = "proxy", run: str = "r1", alone: bool = False
) -> int:
    """What a process has; the newest number."""
    present = Present(holder=holder, run=run, known=known, sessions=list(sessions), alone=alone)
    response = await post(edge, "/v1/presence", present)
    assert response.is_success, response.text
    newest: int = response.json()["newest"]
    return newest


async def test_all_proxies_together_have_so_many(desk: Desk, edge: Edge) -> None:
    """Two, and no third by either; asking again for one that is in changes nothing."""
    other, grant = await desk.edge("other"), await desk.grant(max_sessions=2)
    assert await take(edge, grant, "s1")
    assert await take(other, grant, "s2")
    assert await take(edge, grant, "s1")
    assert not await take(other, grant, "s3")
    assert not await take(edge, grant, "s3")
    assert await take(edge, await desk.grant(max_sessions=1), "s4")


async def test_many_at_once_get_as_many_as_there_are(desk: Desk, edge: Edge) -> None:
    """However they are interleaved."""
    other, grant = await desk.edge("other"), await desk.grant(max_sessions=3)
    wanting = [take((edge, other)[number % 2], grant, f"s{number}") for number in range(30)]
    assert sum(await asyncio.gather(*wanting)) == 3


async def test_a_session_has_one_place(desk: Desk, edge: Edge) -> None:
    """Nobody gets in on the id of another proxy's session, nor on one of another grant's."""
    other, grant = await desk.edge("other"), await desk.grant(max_sessions=2)
    assert await take(edge, grant, "s1")
    for stranger, asked in ((other, grant), (edge, await desk.grant(max_sessions=2))):
        refused = await post(stranger, f"/v1/grants/{asked}/places", Wanted(session="s1", holder="proxy", run="r1"))
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:curfew:problem:conflict")


async def test_grants_that_are_over_or_unknown_have_no_places(desk: Desk, edge: Edge) -> None:
    """Revoked, expired, never made."""
    revoked, expired = await desk.grant(max_sessions=1), await desk.grant(max_sessions=1, duration_s=60)
    await desk.ok("carol", "POST", f"/v1/grants/{revoked}/revoke", {"reason": "enough"})
    desk.clock.pass_(61)
    for grant, status in ((revoked, 409), (expired, 409), ("grt_none", 404)):
        refused = await post(edge, f"/v1/grants/{grant}/places", Wanted(session="s1", holder="proxy", run="r1"))
        assert refused.status_code == status


async def test_a_place_is_given_back_by_its_process(desk: Desk, edge: Edge) -> None:
    """At once: what is not listed is over."""
    grant = await desk.grant(max_sessions=2)
    assert await take(edge, grant, "s1")
    assert await take(edge, grant, "s2")
    newest = await tell(edge, "s1", "s2", known=0)
    await tell(edge, "s2", known=newest)
    assert await take(edge, grant, "s3")
    assert not await take(edge, grant, "s4")


async def test_a_late_list_takes_no_place_from_a_newer_session(desk: Desk, edge: Edge) -> None:
    """It was made when there was nothing yet, and lay on the way meanwhile."""
    grant = await desk.grant(max_sessions=1)
    before = await tell(edge, known=0)
    assert await take(edge, grant, "s1")
    await tell(edge, known=before)
    assert not await take(edge, grant, "s2")


@pytest.mark.parametrize("who", ["another proxy", "another worker", "another run"])
async def test_nobody_else_gives_it_back(desk: Desk, edge: Edge, who: str) -> None:
    """A list speaks for its own process."""
    other, grant = await desk.edge("other"), await desk.grant(max_sessions=1)
    assert await take(edge, grant, "s1")
    newest = await tell(edge, "s1", known=0)
    if who == "another proxy":
        await tell(other, known=newest, alone=True)
    elif who == "another worker":
        await tell(edge, known=newest, holder="worker-2", alone=True)
    else:
        await tell(edge, known=newest, run="r2")
    assert not await take(edge, grant, "s2")


async def test_what_a_dead_process_had_is_given_back_when_it_is_known_to_be_gone(desk: Desk, edge: Edge) -> None:
    """By the process that took its place and has ended what was left."""
    grant = await desk.grant(max_sessions=1)
    assert await take(edge, grant, "s1", run="r1")
    newest = await tell(edge, known=0, run="r2")
    await tell(edge, known=newest, run="r2")
    assert not await take(edge, grant, "s2", run="r2")
    await tell(edge, known=newest, run="r2", alone=True)
    assert await take(edge, grant, "s2", run="r2")


async def test_time_gives_nothing_back(desk: Desk, edge: Edge) -> None:
    """A proxy that is silent may have its session all the same."""
    grant = await desk.grant(max_sessions=1, duration_s=7_200)
    assert await take(edge, grant, "s1")
    desk.clock.pass_(3_600)
    assert not await take(await desk.edge("other"), grant, "s2")


async def test_the_record_of_its_end_gives_a_place_back(desk: Desk, edge: Edge) -> None:
    """Whichever comes first, and for a login that was refused too."""
    grant = await desk.grant(max_sessions=1)
    assert await take(edge, grant, "s1")
    chain = Chain("s1")
    assert (await edge.ship(chain.seal(edge.start(grant=grant)))).is_success
    assert not await take(edge, grant, "s2")
    assert (await edge.ship(chain.seal_signed(end(), edge.key))).is_success
    assert await take(edge, grant, "s2")
    refused = AuthRefused(refusal="expired", user="ada", database="orders", grant=grant)
    assert (await edge.ship(Chain("s2").seal_signed(refused, edge.key))).is_success
    assert await take(edge, grant, "s3")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/grants/grt_1/places", b"{}"),
        ("/v1/grants/grt_1/places", b'{"session":"","holder":"proxy","run":"r1"}'),
        ("/v1/grants/grt_1/places", b'{"session":"s1","holder":"proxy","run":"' + b"r" * 65 + b'"}'),
        ("/v1/presence", b"[]"),
        ("/v1/presence", b"\xff"),
        ("/v1/presence", b'{"holder":"h","run":"r","known":-1,"sessions":[],"alone":false}'),
        ("/v1/presence", msgspec.json.encode(TOO_MANY)),
    ],
)
async def test_what_is_not_as_it_should_be_is_refused(edge: Edge, path: str, body: bytes) -> None:
    """Whoever says it."""
    refused = await edge.desk.http.post(path, content=body, headers=edge.signed("POST", path, body))
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:curfew:problem:invalid")


async def test_a_proof_is_for_its_own_body(desk: Desk, edge: Edge) -> None:
    """And people have no places to take."""
    path, body = "/v1/presence", b'{"holder":"h","run":"r","known":0,"sessions":[],"alone":true}'
    refused = await desk.http.post(path, content=body, headers=edge.signed("POST", path, b""))
    assert refused.status_code == 401
    assert (await desk.call("root", "POST", path, {})).status_code == 401


async def test_a_proxy_that_tells_is_not_heard_by_its_stream(desk: Desk, edge: Edge) -> None:
    """The stream of a machine that has lost its power stays open for a while; one of an older proxy is all there is."""
    presence, now = desk.services.presence, desk.clock()
    presence.opened("edge")
    presence.told("edge", now + SECOND)
    assert presence.last_seen("edge") == now + SECOND
    await tell(edge, known=0)
    heard = presence.last_seen("edge")
    presence.told("edge", now + 3_600 * SECOND)
    assert presence.last_seen("edge") == heard
