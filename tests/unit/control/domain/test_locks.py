"""What a lock covers, who makes and lifts it, when it is over."""

import itertools
from dataclasses import replace

import pytest

from control.domain.locks import IN_FORCE, LONGEST_S, TOLD, Draft, Lock, Scope, State, lift, lock, refusal, unknown
from control.domain.people import Person, Role
from control.domain.results import Failure, Reason, Success
from control.times import SECOND
from proxy.contract.directive import Locked
from tests.unit.control.desk import TARGETS
from tests.unit.control.domain.test_requests import ADA, BOB, CAROL, ROOT, person

NOW = 1_000 * SECOND
DRAFT = Draft(scope=Scope(target="orders"), reason=" a leak ")
EVERYTHING = Draft(scope=Scope(), everything=True, reason="a fire")
EVE = person("eve", Role.AUDITOR)


def made(draft: Draft = DRAFT, by: Person = CAROL) -> Lock:
    """The lock that it becomes."""
    result = lock(draft, by=by, lock_id="lck_1", now=NOW)
    assert isinstance(result, Success), result
    return result.value


def why(draft: Draft = DRAFT, by: Person = CAROL) -> Reason:
    """Why it becomes none."""
    result = lock(draft, by=by, lock_id="lck_1", now=NOW)
    assert isinstance(result, Failure), result
    return result.reason


@pytest.mark.parametrize(
    "names", list(itertools.product(("ada", None), ("orders", None), ("dba", None), ("edge", None)))
)
def test_it_covers_what_fits_every_name(names: tuple[str | None, ...]) -> None:
    """Each of the names has to fit; and a lock of a proxy keeps nobody from what goes through another one."""
    scope = Scope(person=names[0], target=names[1], profile=names[2], proxy=names[3])
    through_any = names[3] is None
    assert scope.covers(person="ada", target="orders", profile="dba") is through_any
    others = {"person": "bob", "target": "billing", "profile": "readonly"}
    for position, (what, other) in enumerate(others.items()):
        access = {"person": "ada", "target": "orders", "profile": "dba"} | {what: other}
        assert scope.covers(**access) is (through_any and names[position] is None)


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        (Scope(), "everything"),
        (Scope(person="ada"), "person ada"),
        (Scope(target="orders", profile="dba", proxy="edge"), "target orders, profile dba, proxy edge"),
    ],
)
def test_it_says_what_it_covers(scope: Scope, words: str) -> None:
    """In words that a person can act on."""
    assert str(scope) == words


@pytest.mark.parametrize("draft", [DRAFT, EVERYTHING, replace(DRAFT, scope=Scope(proxy="edge"))])
@pytest.mark.parametrize(
    ("by", "may"),
    [(CAROL, True), (ROOT, True), (BOB, False), (EVE, False), (person("x", Role.APPROVER, disabled_at=0), False)],
)
def test_whoever_may_end_access_may_lock(draft: Draft, by: Person, may: bool) -> None:  # noqa: FBT001 a column
    """Everything too: in an emergency nobody has to be found who agrees."""
    assert isinstance(lock(draft, by=by, lock_id="lck_1", now=NOW), Success) is may
    if not may:
        assert why(draft, by) is Reason.FORBIDDEN


@pytest.mark.parametrize(
    "draft",
    [
        replace(DRAFT, scope=Scope()),
        replace(DRAFT, everything=True),
        replace(DRAFT, reason=""),
        replace(DRAFT, reason="\x1b[2J"),
        replace(DRAFT, reason="\ud800"),
        replace(DRAFT, reason="x" * 2_001),
        replace(DRAFT, scope=Scope(person="")),
        replace(DRAFT, scope=Scope(person="a" * 64)),
        replace(DRAFT, scope=Scope(person="é" * 32)),
        replace(DRAFT, scope=Scope(person=" ada")),
        replace(DRAFT, scope=Scope(person="a\nb")),
        replace(DRAFT, scope=Scope(target="a/b")),
        replace(DRAFT, scope=Scope(profile="\x00")),
        replace(DRAFT, scope=Scope(proxy="\ud800")),
        replace(DRAFT, until=NOW),
        replace(DRAFT, until=-1),
        replace(DRAFT, until=NOW + LONGEST_S * SECOND + 1),
        replace(DRAFT, until=NOW + 1, duration_s=1),
        replace(DRAFT, duration_s=0),
        replace(DRAFT, duration_s=-5),
        replace(DRAFT, duration_s=LONGEST_S + 1),
    ],
)
def test_what_is_no_lock(draft: Draft) -> None:
    """Nothing named, too much named, no reason, no name, no time ahead."""
    assert why(draft) is Reason.INVALID


@pytest.mark.parametrize("name", ["o'Brien\"; DROP ROLE x; --", "back\\slash", "😀" * 15, "é" * 31, "a" * 63, "a b"])
def test_odd_names_are_locked_all_the_same(name: str) -> None:
    """Whatever PostgreSQL takes as a name."""
    assert made(replace(DRAFT, scope=Scope(person=name))).told().person == name


def test_it_stands_until_its_time_or_its_lifting() -> None:
    """To the nanosecond, and lifted for good."""
    one = made(replace(DRAFT, duration_s=60))
    end = NOW + 60 * SECOND
    assert (one.until, one.reason, one.created_by) == (end, "a leak", "carol")
    assert (one.state(NOW), one.state(end - 1), one.state(end)) == (State.ACTIVE, State.ACTIVE, State.EXPIRED)
    assert made().state(2**62) is State.ACTIVE
    assert made(replace(DRAFT, until=NOW + 1)).until == NOW + 1
    assert replace(one, lifted_at=NOW).state(end) is State.LIFTED


def test_lifting_is_recorded_once() -> None:
    """Who and why; a second time changes nothing, and what is over is not lifted."""
    lifted = lift(made(), by=ROOT, reason=" found it ", now=NOW + 5)
    assert isinstance(lifted, Success)
    one = lifted.value
    assert (one.lifted_at, one.lifted_by, one.lift_reason) == (NOW + 5, "root", "found it")
    assert lift(one, by=CAROL, now=NOW + 9) == lifted
    late = lift(made(replace(DRAFT, duration_s=1)), by=CAROL, now=NOW + SECOND)
    assert isinstance(late, Failure)
    assert late.reason is Reason.NOT_ACTIVE
    bad = lift(made(), by=CAROL, reason="\x07", now=NOW)
    assert isinstance(bad, Failure)
    assert bad.reason is Reason.INVALID


@pytest.mark.parametrize(
    ("by", "named", "reason"),
    [
        (CAROL, "ada", None),
        (CAROL, None, None),
        (CAROL, "carol", Reason.OWN_LOCK),
        (ADA, "ada", Reason.OWN_LOCK),
        (BOB, "ada", Reason.FORBIDDEN),
        (BOB, "bob", Reason.FORBIDDEN),
        (EVE, None, Reason.FORBIDDEN),
    ],
)
def test_who_lifts(by: Person, named: str | None, reason: Reason | None) -> None:
    """Whoever may lock, but nobody a lock that names themselves, whatever roles they have."""
    one = made(EVERYTHING if named is None else replace(DRAFT, scope=Scope(person=named)))
    result = lift(one, by=by, now=NOW)
    assert (result.reason if isinstance(result, Failure) else None) is reason


@pytest.mark.parametrize(
    ("asker", "named", "seen"),
    [(BOB, "bob", True), (BOB, None, True), (CAROL, "ada", True), (EVE, "ada", True), (person("dan"), "ada", False)],
)
def test_who_sees_it(asker: Person, named: str | None, seen: bool) -> None:  # noqa: FBT001 a column
    """Approvers and auditors all of them, and everybody what may keep themselves out."""
    assert made(replace(DRAFT, scope=Scope(person=named, target="orders"))).visible_to(asker) is seen


def test_what_proxies_are_told() -> None:
    """All of it but the whole of a long reason: every lock in force comes in one line."""
    told = made(replace(DRAFT, reason="x" * 500, duration_s=60)).told()
    assert told == Locked(id="lck_1", target="orders", until=1_060.0, by="carol", reason="x" * TOLD, decided_at=NOW)
    assert IN_FORCE * TOLD * len("\\ud83d\\ude00") < 2**21


def test_a_refusal_says_who_until_when_and_why() -> None:
    """And under which id it is to be found."""
    assert refusal(made(replace(DRAFT, duration_s=60))) == Failure(
        Reason.LOCKED, "target orders is locked by carol until 1970-01-01T00:17:40.000000Z: a leak (lock lck_1)"
    )
    assert "everything is locked by carol until it is lifted: a fire" in refusal(made(EVERYTHING)).detail


@pytest.mark.parametrize(
    ("scope", "warnings"),
    [
        (Scope(), 0),
        (Scope(person="known", target="orders", profile="dba", proxy="known"), 0),
        (Scope(profile="dba"), 0),
        (Scope(person="stranger"), 1),
        (Scope(proxy="stranger"), 1),
        (Scope(target="orrders"), 1),
        (Scope(target="narrow", profile="dba"), 1),
        (Scope(profile="dbaa"), 1),
        (Scope(person="stranger", target="orrders", profile="x", proxy="stranger"), 4),
    ],
)
def test_names_that_nobody_has(scope: Scope, warnings: int) -> None:
    """Each is told: a slip of the pen must not pass for a lock."""
    told = unknown(scope, person_known=scope.person == "known", proxy_known=scope.proxy == "known", targets=TARGETS)
    assert len(told) == warnings
