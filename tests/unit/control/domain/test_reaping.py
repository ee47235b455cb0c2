"""When others are told to end a silent proxy's sessions."""

from dataclasses import replace

import msgspec
import pytest

from control.domain.grants import grant_of
from control.domain.locks import Lock, Scope
from control.domain.reaping import (
    FIRST_WAIT_S,
    GAP_S,
    LAST_WAIT_S,
    SILENCE_S,
    TRIED_FOR_S,
    Vigil,
    begin,
    cause,
    covers,
)
from control.domain.sessions import Session
from control.times import SECOND
from proxy.contract.settings import Target
from tests.unit.control.desk import TARGETS
from tests.unit.control.domain.test_requests import request

NOW = 1_000 * SECOND
GRANT = grant_of(request(), grant_id="grt_1", approver="carol", now=NOW)
SESSION = Session(
    id="s1",
    proxy="edge",
    person="ada",
    grant="grt_1",
    target="orders",
    database="shop",
    profile="readonly",
    started_at=NOW,
)


def with_lost_lease(what: str) -> dict[str, Target]:
    """The targets, `orders` with this for a lost lease."""
    return {**TARGETS, "orders": msgspec.structs.replace(TARGETS["orders"], lost_lease=what)}


def lock(**names: str) -> Lock:
    """A lock of these."""
    return Lock(id="lck_1", scope=Scope(**names), reason="x", created_at=NOW, created_by="carol")


@pytest.mark.parametrize("lost_lease", ["refuse-new", "run-on"])
def test_access_that_goes_on_is_left_alone(lost_lease: str) -> None:
    """Its proxy may only be cut off."""
    targets = with_lost_lease(lost_lease)
    assert cause(SESSION, grant=GRANT, targets=targets, locks=[], now=NOW) is None
    assert cause(SESSION, grant=GRANT, targets=targets, locks=[lock(person="bob")], now=NOW) is None


def test_a_lost_lease() -> None:
    """Where the target wants the sessions to end with it; one that is configured no more wants nothing."""
    targets = with_lost_lease("end-sessions")
    assert cause(SESSION, grant=GRANT, targets=targets, locks=[], now=NOW) == "the lease is lost"
    assert cause(SESSION, grant=GRANT, targets={}, locks=[], now=NOW) is None


def test_access_that_is_over() -> None:
    """Expired, revoked, locked, or nobody's."""
    after = GRANT.expires_at
    revoked = replace(GRANT, revoked_at=NOW)
    assert cause(SESSION, grant=GRANT, targets=TARGETS, locks=[], now=after - 1) is None
    assert cause(SESSION, grant=GRANT, targets=TARGETS, locks=[], now=after) == "the grant is expired"
    assert cause(SESSION, grant=revoked, targets=TARGETS, locks=[], now=NOW) == "the grant is revoked"
    assert cause(SESSION, grant=None, targets=TARGETS, locks=[], now=NOW) == "the grant is unknown"
    assert cause(SESSION, grant=GRANT, targets=TARGETS, locks=[lock()], now=NOW) == "it is locked"


@pytest.mark.parametrize(
    ("names", "covered"),
    [
        ({}, True),
        ({"person": "ada"}, True),
        ({"target": "orders", "profile": "readonly"}, True),
        ({"proxy": "edge"}, True),
        ({"proxy": "edge", "person": "bob"}, False),
        ({"target": "orders", "profile": "dba"}, False),
        ({"proxy": "other"}, False),
    ],
)
def test_what_a_lock_covers(names: dict[str, str], covered: bool) -> None:  # noqa: FBT001 a case's answer
    """Every name fits that it has."""
    assert covers(lock(**names), SESSION) is covered


def test_the_pauses_grow_and_there_is_an_end() -> None:
    """At once, after 2 s, 4 s ... every 5 min, for a day."""
    reaping = begin(SESSION, why="x", by=None, now=NOW)
    pauses, now = [], NOW
    while reaping.due(now):
        reaping = reaping.told(now)
        assert not reaping.due(reaping.next_at - 1)
        pauses.append((reaping.next_at - now) / SECOND)
        now = reaping.next_at
    assert pauses[:3] == [FIRST_WAIT_S, 2 * FIRST_WAIT_S, 4 * FIRST_WAIT_S]
    assert set(pauses[10:]) == {LAST_WAIT_S}
    assert now - NOW >= TRIED_FOR_S * SECOND
    assert len(pauses) < 300


def listened(vigil: Vigil, seconds: float, *, since: float, **last_seen: int) -> float:
    """Look at these for so long, often enough; when that was."""
    now = since
    while now < since + seconds:
        now = min(now + GAP_S / 2, since + seconds)
        vigil.look(last_seen, now)
    return now


def found(vigil: Vigil) -> tuple[set[str], set[str]]:
    """Who is silent, and who was heard."""
    return set(vigil.silent()), set(vigil.heard())


def test_who_is_silent() -> None:
    """Whoever was not heard for SILENCE_S of listening; whoever was, in between, is heard, until they are silent."""
    vigil = Vigil()
    vigil.look({"a": 1, "b": 1}, 0.0)
    assert found(vigil) == (set(), set())
    now = listened(vigil, SILENCE_S, since=0.0, a=1, b=2)
    assert found(vigil) == (set(), {"b"})
    vigil.look({"a": 1, "b": 2}, now + 0.1)
    assert found(vigil) == ({"a"}, {"b"})
    listened(vigil, SILENCE_S, since=now + 0.1, a=2, b=2)
    assert found(vigil) == ({"b"}, {"a"})


def test_who_has_not_looked_listens_anew() -> None:
    """A service that hung for longer than GAP_S has heard nobody meanwhile, whoever may have spoken."""
    vigil = Vigil()
    vigil.look({"a": 1}, 0.0)
    now = listened(vigil, SILENCE_S - 1, since=0.0, a=1)
    vigil.look({"a": 1}, now + GAP_S + 0.1)
    assert not vigil.silent()
    now = listened(vigil, SILENCE_S, since=now + GAP_S + 0.1, a=1)
    assert not vigil.silent()
    vigil.look({"a": 1}, now + 0.1)
    assert found(vigil) == ({"a"}, set())
