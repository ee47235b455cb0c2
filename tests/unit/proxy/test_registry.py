"""The registry: limits, cancel keys, revocations and locks, with sessions that only note what they are told."""

import json
import secrets
import time
from pathlib import Path
from typing import Any

import pytest

from proxy.contract.directive import Extension, Locked
from proxy.contract.grant import Refusal
from proxy.contract.token import KeySet
from proxy.errors import NotAdmitted, TooManySessions
from proxy.registry import LATEST_S, Registry
from proxy.slots import Slots
from tests.harness import tokens
from tests.unit.proxy.live import Session, key_of


def session(grant: str = "grt_a", *, limit: int | None = None) -> Session:
    """A session on this grant."""
    return Session(tokens.grant(id=grant, max_sessions=limit))


@pytest.fixture
def registry() -> Registry:
    """Of a proxy that takes three sessions."""
    return Registry(max_sessions=3)


def test_sessions_come_and_go(registry: Registry) -> None:
    """Counted in and out; leaving twice, or without having been in, is harmless."""
    one, other = session(), session()
    registry.admit(one)
    registry.admit(other)
    assert (len(registry), set(registry)) == (2, {one, other})
    for _ in range(2):
        registry.leave(one)
    registry.leave(session("grt_never"))
    assert list(registry) == [other]


def test_who_goes_while_others_are_told(registry: Registry) -> None:
    """Sessions may leave while somebody goes through them."""
    for _ in range(3):
        registry.admit(session())
    for one in registry:
        registry.leave(one)
    assert len(registry) == 0


def test_the_proxy_s_limit(registry: Registry) -> None:
    """One too many is refused with 53300, and counts for nothing."""
    taken = [session() for _ in range(3)]
    for one in taken:
        registry.admit(one)
    with pytest.raises(TooManySessions, match="all 3 sessions"):
        registry.admit(session())
    registry.leave(taken[0])
    registry.admit(session())


def test_the_grant_s_limit(registry: Registry) -> None:
    """Counted for each grant alone; the person is told which grant."""
    first = session(limit=1)
    registry.admit(first)
    with pytest.raises(TooManySessions) as refused:
        registry.admit(session(limit=1))
    assert refused.value.detail == "Grant grt_a allows 1 at once."
    registry.admit(session("grt_b", limit=1))
    registry.leave(first)
    registry.admit(session(limit=1))


def test_a_revoked_grant(registry: Registry) -> None:
    """Its sessions are ended with who did it and when, the others are not; nobody new comes in."""
    mine, also_mine, other = session(), session(), session("grt_b")
    for one in (mine, also_mine, other):
        registry.admit(one)
    registry.revoke("grt_a", expires_at=time.time() + 60, by="eve", decided_at=7)
    assert mine.stopped == also_mine.stopped == [("revoked", "eve", 7)]
    assert other.stopped == []
    registry.leave(mine)
    with pytest.raises(NotAdmitted) as refused:
        registry.admit(session())
    assert (refused.value.refusal, refused.value.grant) == (Refusal.REVOKED, "grt_a")


def test_a_revocation_comes_first(registry: Registry) -> None:
    """Who is revoked learns nothing of the limits."""
    for _ in range(3):
        registry.admit(session("grt_b"))
    registry.revoke("grt_a", expires_at=time.time() + 60, by=None, decided_at=1)
    with pytest.raises(NotAdmitted):
        registry.admit(session())


def test_a_revocation_is_remembered_until_the_grant_s_end(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then its token is of no use anyway; the next revocation drops it."""
    now = time.time()
    registry.revoke("grt_a", expires_at=now + 60, by=None, decided_at=1)
    monkeypatch.setattr("proxy.registry.time.time", lambda: now + 59)
    registry.revoke("grt_b", expires_at=now + 900, by=None, decided_at=1)
    with pytest.raises(NotAdmitted):
        registry.admit(session())
    monkeypatch.setattr("proxy.registry.time.time", lambda: now + 61)
    registry.revoke("grt_b", expires_at=now + 900, by=None, decided_at=1)
    registry.admit(session())


def test_kill(registry: Registry) -> None:
    """One session by its id; one that is not here is another proxy's."""
    one, other = session(), session()
    registry.admit(one)
    registry.admit(other)
    registry.kill(one.id, by="eve", decided_at=7)
    registry.kill("ses_elsewhere", by="eve", decided_at=7)
    assert (one.stopped, other.stopped) == ([("killed", "eve", 7)], [])


def test_stop_all(registry: Registry) -> None:
    """Each is told the reason and the moment."""
    sessions = [session() for _ in range(3)]
    for one in sessions:
        registry.admit(one)
    before = time.time_ns()
    registry.stop_all("drained")
    for one in sessions:
        ((reason, by, decided_at),) = one.stopped
        assert (reason, by) == ("drained", None)
        assert before <= decided_at <= time.time_ns()


# --- cancel keys


def test_cancel_keys(registry: Registry) -> None:
    """Two targets' backends may share a pid; the secret tells them apart, whole and alone."""
    one, other = session(), session()
    key, other_key = registry.add_cancel_key(one, 4711, 4), registry.add_cancel_key(other, 4711, 32)
    assert (len(key), len(other_key)) == (4, 32)
    assert registry.find_by_cancel_key(4711, key) is one
    assert registry.find_by_cancel_key(4711, other_key) is other
    for wrong in (b"", key[:3], key + b"\0", other_key[:4], bytes(32)):
        assert registry.find_by_cancel_key(4711, wrong) is None
    assert registry.find_by_cancel_key(4712, key) is None


def test_a_dropped_cancel_key_finds_nobody(registry: Registry) -> None:
    """From then on, and the other session of this pid keeps its own."""
    one, other = session(), session()
    key, other_key = registry.add_cancel_key(one, 1, 4), registry.add_cancel_key(other, 1, 4)
    registry.drop_cancel_key(one, 1)
    assert registry.find_by_cancel_key(1, key) is None
    assert registry.find_by_cancel_key(1, other_key) is other
    registry.drop_cancel_key(one, 1)
    registry.drop_cancel_key(other, 1)
    registry.drop_cancel_key(other, 2)
    assert registry.find_by_cancel_key(1, other_key) is None


def test_limits_over_all_workers(tmp_path: Path) -> None:
    """With slots, what another worker has taken is taken; a refusal, and a session that leaves, gives them back."""
    here = Slots(tmp_path)
    registry = Registry(max_sessions=3, slots=here)
    assert [here.take("proxy", 3), here.take("grant grt_a", 2)] != [None, None]  # as another worker would
    one = session(limit=2)
    registry.admit(one)
    with pytest.raises(TooManySessions, match="grant grt_a has its 2"):
        registry.admit(session(limit=2))
    other = session("grt_b")
    registry.admit(other)
    with pytest.raises(TooManySessions, match="all 3 sessions"):
        registry.admit(session("grt_c"))
    for _ in range(2):
        registry.leave(one)
    registry.admit(session(limit=2))
    here.close()


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256"])
def test_keys_that_are_withdrawn(registry: Registry, algorithm: str) -> None:
    """Who came in by a key that is no more is out; another key under its id does not help, a new one beside it does."""
    old = tokens.Signer(algorithm=algorithm)
    new, twin = tokens.Signer(kid="new"), tokens.Signer(algorithm=algorithm)
    mine, others = Session(tokens.grant(id="grt_a"), key_of(old)), Session(tokens.grant(id="grt_b"), key_of(new))
    registry.admit(mine)
    registry.admit(others)
    registry.withdraw_all_but(KeySet([key_of(old), key_of(new)]), decided_at=5)
    registry.withdraw_all_but(KeySet.from_jwks(json.dumps({"keys": [old.jwk, new.jwk]})), decided_at=6)
    assert (mine.stopped, others.stopped) == ([], [])
    registry.withdraw_all_but(KeySet([key_of(twin), key_of(new)]), decided_at=7)
    assert (mine.stopped, others.stopped) == ([("withdrawn", None, 7)], [])
    registry.withdraw_all_but(KeySet([]), decided_at=8)
    assert others.stopped == [("withdrawn", None, 8)]


# --- locks


def locked(id: str = "lck_1", **changed: Any) -> Locked:  # noqa: A002, ANN401 the field's own name, any field of Locked
    """A lock by eve; of everything, where nothing else is said."""
    return Locked(**{"id": id, "by": "eve", "decided_at": 7, **changed})


def live(**facts: Any) -> Session:  # noqa: ANN401 any fact of a grant
    """A session with these facts."""
    return Session(tokens.grant(**{"id": secrets.token_hex(4), **facts}))


STRANGE = (
    "o'brien\"; DROP ROLE x;--",
    "two\nlines\\",
    "\N{PILE OF POO}" * 15,
    "x" * 63,
    "\N{LATIN SMALL LETTER A WITH DIAERESIS}",
)


@pytest.mark.parametrize(
    ("lock", "covered"),
    [
        ({}, True),
        ({"person": "dba1"}, True),
        ({"person": "DBA1"}, False),
        ({"person": ""}, False),
        ({"target": "orders"}, True),
        ({"target": "other"}, False),
        ({"profile": "readonly"}, True),
        ({"proxy": "edge"}, True),
        ({"proxy": "edge-2"}, False),
        ({"person": "dba1", "target": "orders", "profile": "readonly", "proxy": "edge"}, True),
        ({"person": "dba1", "target": "other"}, False),
        ({"target": "orders", "profile": "admin"}, False),
        ({"until": 0.0}, False),
        ({"until": -1e300}, False),
        ({"until": 1e300}, True),
    ],
    ids=str,
)
def test_what_a_lock_covers(lock: dict[str, Any], covered: bool) -> None:  # noqa: FBT001 a table's column
    """What fits each name that it has: it ends, and is refused like everything else. The rest never notices."""
    registry = Registry(max_sessions=3, proxy="edge")
    running = live()
    registry.admit(running)
    registry.lock(locked(**lock))
    assert running.stopped == ([("locked", "eve", 7)] if covered else [])
    if covered:
        with pytest.raises(NotAdmitted) as refused:
            registry.admit(live())
        assert refused.value.refusal is Refusal.LOCKED
    else:
        registry.admit(live())


@pytest.mark.parametrize("name", STRANGE)
def test_names_are_compared_as_they_are(name: str, registry: Registry) -> None:
    """Whatever stands in them, and by nothing less than all of it."""
    registry.lock(locked(person=name))
    for other in (name[:-1], name + "x", name.upper() + "y", ""):
        registry.admit(one := live(person=other))
        registry.leave(one)
    with pytest.raises(NotAdmitted):
        registry.admit(live(person=name))


def test_a_lifted_lock(registry: Registry) -> None:
    """Lets people in again; an unknown one, or the same once more, is nothing."""
    registry.unlock("lck_1")
    registry.lock(locked())
    registry.lock(locked("lck_2", person="dba1"))
    registry.unlock("lck_1")
    registry.unlock("lck_1")
    with pytest.raises(NotAdmitted):
        registry.admit(live())
    registry.admit(live(person="dba2"))
    registry.unlock("lck_2")
    registry.admit(live())


def test_a_lock_is_over_at_its_time(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself."""
    now = time.time()
    registry.lock(locked(until=now + 60))
    monkeypatch.setattr("proxy.registry.time.time", lambda: now + 59)
    with pytest.raises(NotAdmitted):
        registry.admit(live())
    monkeypatch.setattr("proxy.registry.time.time", lambda: now + 60)
    registry.admit(live())


def test_a_lock_told_again_is_what_it_is_now(registry: Registry) -> None:
    """Of one id, the last word counts."""
    registry.lock(locked())
    registry.lock(locked(person="dba2"))
    registry.admit(one := live())
    registry.lock(locked(person="dba1"))
    assert one.stopped == [("locked", "eve", 7)]


def test_a_snapshot_replaces_the_locks(registry: Registry) -> None:
    """One that is missing was lifted, and running sessions are held against those that are there."""
    registry.lock(locked("lck_old"))
    registry.replace_locks([locked("lck_new", person="dba2")])
    registry.admit(one := live())
    registry.admit(other := live(person="dba3"))
    with pytest.raises(NotAdmitted):
        registry.admit(live(person="dba2"))
    registry.replace_locks([locked("lck_new", person="dba3"), locked("lck_past", until=1.0)])
    assert (one.stopped, other.stopped) == ([], [("locked", "eve", 7)])
    registry.replace_locks([])
    registry.admit(live(person="dba3"))


def test_a_lock_comes_before_the_limits(registry: Registry) -> None:
    """Who is locked out learns nothing of them."""
    for _ in range(3):
        registry.admit(session("grt_b"))
    registry.lock(locked())
    with pytest.raises(NotAdmitted):
        registry.admit(session())


# --- extension


def extension(grant: str, expires_at: float) -> Extension:
    """By eve."""
    return Extension(grant=grant, expires_at=expires_at, by="eve", decided_at=7)


def test_an_extension(registry: Registry) -> None:
    """The sessions of the grant are told, and one that begins on an older token finds it; nobody else does."""
    mine, other = session(), session("grt_b")
    registry.admit(mine)
    registry.admit(other)
    end = mine.grant.expires_at + 100
    assert registry.extension_of(mine.grant) is None
    registry.extend(extension("grt_a", end))
    registry.extend(extension("grt_never_heard_of", end))
    assert (mine.extended, other.extended) == ([end], [])
    assert registry.extension_of(mine.grant) == extension("grt_a", end)
    assert registry.extension_of(other.grant) is None
    newer = Session(tokens.grant(id="grt_a", lasts_s=900))
    assert registry.extension_of(newer.grant) is None


def test_an_end_never_comes_sooner(registry: Registry) -> None:
    """Out of order, twice, in the past: what was told before stays."""
    one = session()
    registry.admit(one)
    end = one.grant.expires_at + 100
    for moved in (end, end, end - 50, time.time() - 1, -1e300):
        registry.extend(extension("grt_a", moved))
    assert one.extended == [end]
    assert registry.extension_of(one.grant) == extension("grt_a", end)


def test_an_end_beyond_all_times(registry: Registry) -> None:
    """It is one that a record can hold."""
    one = session()
    registry.admit(one)
    registry.extend(extension("grt_a", 1e300))
    assert one.extended == [LATEST_S]
    assert int(LATEST_S * 1e9) < 2**63


def test_an_extension_is_forgotten_with_its_grant(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one drops it."""
    now = time.time()
    registry.extend(extension("grt_a", now + 1000))
    monkeypatch.setattr("proxy.registry.time.time", lambda: now + 1001)
    registry.extend(extension("grt_b", now + 2000))
    assert registry.extension_of(session().grant) is None


# --- the lease


def test_without_a_lease(registry: Registry) -> None:
    """Sessions that need one end; the others run on."""
    one, other = session(), session()
    one.needs_lease = True
    registry.admit(one)
    registry.admit(other)
    registry.end_without_lease(decided_at=7)
    assert (one.stopped, other.stopped) == ([("lease_lost", None, 7)], [])
