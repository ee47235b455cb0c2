"""More time on a grant: who asks, how much there is, what an approval does."""

from dataclasses import replace

import pytest

from control.domain.drafts import Limits
from control.domain.extensions import Draft, Extension, ask, extend, history
from control.domain.grants import Grant, grant_of
from control.domain.people import Person, Role
from control.domain.requests import TRANSITIONS, Action, Request, State, decide, granted
from control.domain.results import Failure, Reason, Success
from control.times import SECOND
from proxy.contract.grant import EndMode
from tests.unit.control.domain.test_requests import ADA, BOB, CAROL, person, request

NOW = 1_000 * SECOND
LIMITS = Limits(max_duration_s=1_000, default_duration_s=100, request_ttl_s=60)
DRAFT = Draft(duration_s=300, reason=" the index takes longer ")


@pytest.fixture
def grant() -> Grant:
    """Ada's, from NOW on for ten minutes, of a thousand seconds that there may be."""
    return grant_of(request(), grant_id="grt_1", approver="carol", end=EndMode.FINISH, now=NOW)


def asked(grant: Grant, draft: Draft = DRAFT, *, by: Person = ADA, now: int = NOW, another: bool = False) -> Request:
    """The request that it becomes."""
    made = ask(draft, grant, by=by, limits=LIMITS, another_is_open=another, request_id="req_2", now=now)
    assert isinstance(made, Success), made
    return made.value


def why(grant: Grant, draft: Draft = DRAFT, *, by: Person = ADA, now: int = NOW, another: bool = False) -> Reason:
    """Why it becomes none."""
    made = ask(draft, grant, by=by, limits=LIMITS, another_is_open=another, request_id="req_2", now=now)
    assert isinstance(made, Failure), made
    return made.reason


def approved(grant: Grant, duration_s: int = 300, now: int = NOW) -> Request:
    """One that carol has approved."""
    decided = decide(asked(grant, replace(DRAFT, duration_s=duration_s)), Action.APPROVE, by=CAROL, now=now)
    assert isinstance(decided, Success)
    return granted(decided.value, grant.id)


def test_it_is_a_request_like_any_other(grant: Grant) -> None:
    """For the same access, and no longer open than the grant lasts."""
    made = asked(grant)
    assert (made.extends, made.duration_s, made.reason) == ("grt_1", 300, "the index takes longer")
    assert (made.person, made.target, made.profile, made.databases) == ("ada", "orders", "dba", ("shop",))
    assert (made.state, made.end, made.grant) == (State.PENDING, EndMode.FINISH, None)
    assert made.pending_until == NOW + 60 * SECOND
    assert asked(grant, now=grant.expires_at - 5 * SECOND).pending_until == grant.expires_at


@pytest.mark.parametrize("action", [Action.APPROVE, Action.DENY, Action.WITHDRAW])
@pytest.mark.parametrize("by", [ADA, BOB, CAROL])
def test_the_table_and_the_pairs_of_eyes_are_the_same(grant: Grant, action: Action, by: Person) -> None:
    """Whoever may decide what on a first request may on an extension, and nobody else."""
    of_the_first, of_this = decide(request(), action, by=by, now=1), decide(asked(grant), action, by=by, now=NOW)
    if isinstance(of_the_first, Failure):
        assert isinstance(of_this, Failure)
        assert of_this.reason is of_the_first.reason
    else:
        assert isinstance(of_this, Success)
        assert of_this.value.state is TRANSITIONS[State.PENDING, action]


@pytest.mark.parametrize("by", [CAROL, BOB, person("ada"), person("ada", Role.REQUESTER, disabled_at=0)])
def test_only_its_own_person_asks(grant: Grant, by: Person) -> None:
    """Who may still ask for access at all."""
    assert why(grant, by=by) is Reason.FORBIDDEN


@pytest.mark.parametrize(("duration_s", "good"), [(1, True), (400, True), (401, False), (0, False), (-60, False)])
def test_no_grant_becomes_longer_than_one_may_be(grant: Grant, duration_s: int, good: bool) -> None:  # noqa: FBT001 a column
    """In all, from its start; and none is shortened this way."""
    draft = replace(DRAFT, duration_s=duration_s)
    if good:
        assert asked(grant, draft).duration_s == duration_s
    else:
        assert why(grant, draft) is Reason.INVALID
    full = replace(grant, expires_at=grant.starts_at + 1_000 * SECOND)
    assert why(full, draft) is Reason.INVALID


@pytest.mark.parametrize("reason", ["", " \n", "\x1b[2J", "\ud800", "x" * 2_001])
def test_it_takes_a_reason(grant: Grant, reason: str) -> None:
    """That can be shown."""
    assert why(grant, replace(DRAFT, reason=reason)) is Reason.INVALID


def test_what_is_over_is_not_extended(grant: Grant) -> None:
    """Neither asked for nor approved; nor is there a second request while one is open."""
    revoked = replace(grant, revoked_at=NOW)
    assert why(grant, now=grant.expires_at) is Reason.NOT_ACTIVE
    assert why(revoked) is Reason.NOT_ACTIVE
    assert why(grant, another=True) is Reason.CONFLICT
    request = approved(grant)
    for one, now in ((revoked, NOW), (grant, grant.expires_at)):
        result = extend(one, request, by="carol", max_duration_s=1_000, now=now)
        assert isinstance(result, Failure)
        assert result.reason is Reason.NOT_ACTIVE


def test_an_approval_moves_the_end_and_nothing_else(grant: Grant) -> None:
    """By what was approved, which may be less than was asked for; the token says the new end."""
    result = extend(grant, approved(grant), by="carol", max_duration_s=1_000, now=NOW + 7)
    assert isinstance(result, Success)
    after = result.value
    assert after == replace(grant, expires_at=NOW + 900 * SECOND, extended_at=NOW + 7, extended_by="carol")
    assert after.to_sign(NOW).expires_at == 1_900
    shorter = decide(asked(grant), Action.APPROVE, by=CAROL, now=NOW, duration_s=60)
    assert isinstance(shorter, Success)
    result = extend(grant, shorter.value, by="carol", max_duration_s=1_000, now=NOW)
    assert isinstance(result, Success)
    assert result.value.expires_at == grant.expires_at + 60 * SECOND


def test_a_limit_that_was_lowered_meanwhile_counts(grant: Grant) -> None:
    """What may be is judged when it is approved, too."""
    result = extend(grant, approved(grant), by="carol", max_duration_s=800, now=NOW)
    assert isinstance(result, Failure)
    assert result.reason is Reason.INVALID


def test_its_history_is_told(grant: Grant) -> None:
    """Each with the end that it led to, in the order of the decisions."""
    first, second = approved(grant, 300, NOW + 1), replace(approved(grant, 60, NOW + 2), id="req_3")
    after = replace(grant, expires_at=grant.expires_at + 360 * SECOND)
    assert history(grant, []) == ()
    assert history(after, [second, first]) == (
        Extension(
            request="req_2",
            by="carol",
            at=NOW + 1,
            duration_s=300,
            reason="the index takes longer",
            expires_at=NOW + 900 * SECOND,
        ),
        Extension(
            request="req_3",
            by="carol",
            at=NOW + 2,
            duration_s=60,
            reason="the index takes longer",
            expires_at=NOW + 960 * SECOND,
        ),
    )
