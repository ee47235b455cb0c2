"""What a proxy remembers of control's directives, and what it forgets."""

import time
from pathlib import Path

import msgspec
import pytest

from proxy.contract.directive import (
    AnyDirective,
    Extend,
    Extension,
    Heartbeat,
    Keys,
    Kill,
    Lock,
    Locked,
    Revocation,
    Revoke,
    Snapshot,
    Unlock,
)
from proxy.membership import Membership, MembershipError, begin, gather, load, save

NOW = 1_000_000.0


def member(*grants: str, cursor: int = 5) -> Membership:
    """A member that knows these revocations, each good for a minute from NOW."""
    revoked = tuple(revocation(grant) for grant in grants)
    return Membership(proxy="p1", public_key="k", issuer="i", audience="a", jwks="old", cursor=cursor, revoked=revoked)


def revocation(grant: str, *, expires_at: float = NOW + 60, decided_at: int = 1) -> Revocation:
    """One revocation."""
    return Revocation(grant=grant, expires_at=expires_at, by="eve", decided_at=decided_at)


def grants(membership: Membership) -> set[str]:
    """Which grants it knows to be revoked."""
    return {one.grant for one in membership.revoked}


def test_revocation_is_remembered_once() -> None:
    """Told twice is known once, with the time of the first decision."""
    told = Revoke(cursor=6, at=7, grant="grt_1", expires_at=NOW + 60, by="eve")
    again = Revoke(cursor=7, at=9, grant="grt_1", expires_at=NOW + 60, by="eve")
    known = member().after(told, now=NOW).after(again, now=NOW)
    assert [(one.grant, one.decided_at) for one in known.revoked] == [("grt_1", 7)]
    assert known.cursor == 7


def test_revocation_is_forgotten_with_its_grant() -> None:
    """Once the grant has expired by itself, it need not be remembered."""
    told = Revoke(cursor=6, at=7, grant="grt_2", expires_at=NOW + 600, by="eve")
    assert grants(member("grt_1").after(told, now=NOW + 61)) == {"grt_2"}


def test_snapshot_adds_and_takes_nothing_away() -> None:
    """Whatever control forgot, this proxy does not; and what was missed comes behind the snapshot."""
    told = Snapshot(cursor=9, at=1, revoked=[revocation("grt_2")], jwks="new")
    known = member("grt_1").after(told, now=NOW)
    assert grants(known) == {"grt_1", "grt_2"}
    assert (known.cursor, known.jwks) == (5, "new")


@pytest.mark.parametrize(
    "directive",
    [
        Keys(cursor=8, at=1, jwks="new"),
        Kill(cursor=8, at=1, session="ses_1", by="eve"),
        Heartbeat(cursor=8, at=1),
        Revoke(cursor=8, at=1, grant="grt_1", expires_at=NOW, by="eve"),
    ],
)
def test_cursor_follows(directive: AnyDirective) -> None:
    """Each directive but the snapshot moves it."""
    assert member().after(directive, now=NOW).cursor == 8


def test_heartbeat_without_news_changes_nothing() -> None:
    """The very same object: there is nothing to write to disk every two seconds."""
    known = member("grt_1")
    assert known.after(Heartbeat(cursor=5, at=1), now=NOW) is known


def test_control_may_go_back_to_an_older_copy_of_its_books() -> None:
    """Its cursor is then smaller, and following goes on from there."""
    assert member(cursor=50).after(Heartbeat(cursor=3, at=1), now=NOW).cursor == 3


def test_own_snapshot_leaves_out_what_has_expired() -> None:
    """What a restart tells the server."""
    now = time.time()
    known = Membership(
        proxy="p1",
        public_key="k",
        issuer="i",
        audience="a",
        jwks="keys",
        revoked=(revocation("past", expires_at=now - 1), revocation("grt_1", expires_at=now + 60)),
    )
    told = known.snapshot(now=now)
    assert [one.grant for one in told.revoked] == ["grt_1"]
    assert told.jwks == "keys"


def test_workers_begin_with_what_the_proxy_knows(tmp_path: Path) -> None:
    """The newest of both, with the revocations of both; nothing before the join."""
    own, home = tmp_path / "worker-1", tmp_path
    own.mkdir()
    assert begin(own, home, proxy="p1", public_key="k") is None
    save(home, member("grt_1", cursor=5))
    assert begin(own, home, proxy="p1", public_key="k") == member("grt_1", cursor=5)
    save(own, member("grt_2", cursor=7))
    begun = begin(own, home, proxy="p1", public_key="k")
    assert begun is not None
    assert (begun.cursor, grants(begun)) == (7, {"grt_1", "grt_2"})
    assert begin(home, home, proxy="p1", public_key="k") == member("grt_1", cursor=5)


def test_what_the_workers_know_is_gathered(tmp_path: Path) -> None:
    """For a start with another number of them: no decision is lost because only one of them had heard it."""
    workers = [tmp_path / f"worker-{number}" for number in (1, 2)]
    gather(tmp_path, [], proxy="p1", public_key="k")
    assert load(tmp_path, proxy="p1", public_key="k") is None
    for folder, known in zip(workers, (member("grt_1", cursor=8), member("grt_2", cursor=9)), strict=True):
        folder.mkdir()
        save(folder, known)
    gather(tmp_path, workers, proxy="p1", public_key="k")
    gathered = load(tmp_path, proxy="p1", public_key="k")
    assert gathered is not None
    assert (gathered.cursor, grants(gathered)) == (9, {"grt_1", "grt_2"})
    save(workers[0], msgspec.structs.replace(member(), proxy="p2"))
    with pytest.raises(MembershipError, match=r"worker-1.*joined as 'p2'"):
        gather(tmp_path, workers, proxy="p1", public_key="k")


# --- locks


def lock(id: str, *, person: str | None = None, until: float | None = None) -> Locked:  # noqa: A002 the field's own name
    """One lock."""
    return Locked(id=id, person=person, until=until, by="eve", decided_at=1)


def locks(membership: Membership | None) -> set[str]:
    """Which locks it knows."""
    return set() if membership is None else {one.id for one in membership.locks}


def test_locks_are_remembered_until_they_are_lifted_or_over() -> None:
    """Each once, as it was told last; lifting one that is not known is nothing."""
    known = member()
    told: tuple[AnyDirective, ...] = (
        Unlock(cursor=6, at=1, lock="lck_1", by="eve"),
        Lock(cursor=7, at=1, lock=lock("lck_1")),
        Lock(cursor=8, at=2, lock=lock("lck_2", until=NOW + 60)),
        Lock(cursor=9, at=3, lock=lock("lck_1", person="dba1")),
    )
    for directive in told:
        known = known.after(directive, now=NOW)
    assert (locks(known), known.cursor) == ({"lck_1", "lck_2"}, 9)
    assert [one.person for one in known.locks if one.id == "lck_1"] == ["dba1"]
    assert [one.id for one in known.snapshot(now=NOW + 61).locks] == ["lck_1"]
    later = known.after(Unlock(cursor=10, at=4, lock="lck_1", by="eve"), now=NOW + 61)
    assert (locks(later), later.cursor) == (set(), 10)


def test_a_snapshot_says_which_locks_there_are() -> None:
    """Unlike a revocation, a lock that it does not have is gone."""
    known = member().after(Lock(cursor=6, at=1, lock=lock("lck_1")), now=NOW)
    told = Snapshot(cursor=6, at=2, revoked=[], jwks="new", locks=[lock("lck_2"), lock("lck_past", until=NOW)])
    assert locks(known.after(told, now=NOW)) == {"lck_2"}


STRANGE = "o'brien\"; DROP\nROLE \\ \N{PILE OF POO}\x00"


def test_locks_survive_a_restart(tmp_path: Path) -> None:
    """Whatever stands in their names; a file from before there were locks is read too."""
    known = member().after(Lock(cursor=6, at=2, lock=lock("lck_1", person=STRANGE)), now=NOW)
    save(tmp_path, known)
    read = begin(tmp_path, tmp_path, proxy="p1", public_key="k")
    assert read == known
    old = {"proxy": "p1", "public_key": "k", "issuer": "i", "audience": "a", "jwks": "old", "cursor": 5}
    (tmp_path / "joined.json").write_bytes(msgspec.json.encode(old))
    assert begin(tmp_path, tmp_path, proxy="p1", public_key="k") == member()


def test_of_the_workers_locks_the_newest_word_counts(tmp_path: Path) -> None:
    """A worker that was there long ago still has a lock in its file that was lifted since."""
    workers = [tmp_path / f"worker-{number}" for number in (1, 2, 3)]
    once = member(cursor=6).after(Lock(cursor=7, at=10, lock=lock("lck_lifted")), now=NOW)
    lifted = once.after(Unlock(cursor=8, at=20, lock="lck_lifted", by="eve"), now=NOW)
    in_front = member(cursor=6).after(Snapshot(cursor=6, at=30, revoked=[], jwks="k", locks=[lock("lck_new")]), now=NOW)
    for folder, known in zip(workers, (once, lifted, in_front), strict=True):
        folder.mkdir()
        save(folder, known)
    gather(tmp_path, workers[:2], proxy="p1", public_key="k")
    assert locks(load(tmp_path, proxy="p1", public_key="k")) == set()
    gather(tmp_path, workers, proxy="p1", public_key="k")
    gathered = load(tmp_path, proxy="p1", public_key="k")
    assert locks(gathered) == {"lck_new"}
    assert gathered is not None
    assert gathered.cursor == 8


# --- extensions


def extension(grant: str, expires_at: float) -> Extension:
    """By eve."""
    return Extension(grant=grant, expires_at=expires_at, by="eve", decided_at=1)


def ends(membership: Membership | None) -> dict[str, float]:
    """The ends that it knows."""
    return {} if membership is None else {one.grant: one.expires_at for one in membership.extended}


def test_extensions_are_remembered_until_the_grant_s_end() -> None:
    """Of each grant the latest; a snapshot takes none away."""
    known = member()
    for cursor, end in enumerate((NOW + 60, NOW + 90, NOW + 30, NOW - 1), start=6):
        known = known.after(Extend(cursor=cursor, at=1, extension=extension("grt_1", end)), now=NOW)
    assert (ends(known), known.cursor) == ({"grt_1": NOW + 90}, 9)
    told = Snapshot(cursor=9, at=1, revoked=[], jwks="k", extended=[extension("grt_2", NOW + 50)])
    known = known.after(told, now=NOW)
    assert ends(known) == {"grt_1": NOW + 90, "grt_2": NOW + 50}
    assert [one.grant for one in known.snapshot(now=NOW + 70).extended] == ["grt_1"]
    assert ends(known.after(told, now=NOW + 70)) == {"grt_1": NOW + 90}


def test_extensions_of_all_workers_are_gathered(tmp_path: Path) -> None:
    """The latest end of each grant."""
    workers = [tmp_path / f"worker-{number}" for number in (1, 2)]
    for folder, end in zip(workers, (NOW + 60, NOW + 30), strict=True):
        folder.mkdir()
        save(folder, member().after(Extend(cursor=6, at=1, extension=extension("grt_1", end)), now=NOW))
    gather(tmp_path, workers, proxy="p1", public_key="k")
    assert ends(load(tmp_path, proxy="p1", public_key="k")) == {"grt_1": NOW + 60}
