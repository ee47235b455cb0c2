"""A grant's state, its end before its time, and what its token says."""

from dataclasses import replace

import pytest

from control.domain.grants import Grant, State, grant_of, revoke
from control.domain.people import Person, Role
from control.domain.results import Failure, Reason, Success
from control.times import SECOND
from tests.unit.control.domain.test_requests import ADA, BOB, CAROL, request

NOW = 1_000 * SECOND + 123


@pytest.fixture
def grant() -> Grant:
    """Ada's, approved at NOW for ten minutes."""
    return grant_of(request(), grant_id="grt_1", approver="carol", now=NOW)


def test_its_times_are_whole_seconds(grant: Grant) -> None:
    """As the token's are, so that proxy and control mean the same instant."""
    assert (grant.starts_at, grant.expires_at) == (1_000 * SECOND, 1_600 * SECOND)
    signed = grant.to_sign(NOW)
    assert (signed.not_before, signed.expires_at, signed.issued_at) == (1_000, 1_600, 1_000)


def test_its_state_is_the_clock_and_the_revocation(grant: Grant) -> None:
    """Active until its end, and revoked for good."""
    assert grant.state(NOW) is State.ACTIVE
    assert grant.state(grant.expires_at - 1) is State.ACTIVE
    assert grant.state(grant.expires_at) is State.EXPIRED
    assert replace(grant, revoked_at=NOW).state(grant.expires_at) is State.REVOKED


@pytest.mark.parametrize("by", [CAROL, ADA])
def test_an_approver_and_its_own_person_revoke(grant: Grant, by: Person) -> None:
    """Giving access back early is to be easy."""
    revoked = revoke(grant, by=by, reason="done", now=NOW + 1)
    assert isinstance(revoked, Success)
    assert (revoked.value.revoked_at, revoked.value.revoked_by, revoked.value.revoke_reason) == (
        NOW + 1,
        by.name,
        "done",
    )


def test_nobody_else_does(grant: Grant) -> None:
    """Another requester, an auditor."""
    refused = revoke(grant, by=BOB, reason="x", now=NOW)
    assert isinstance(refused, Failure)
    assert refused.reason is Reason.FORBIDDEN


def test_the_first_revocation_stays(grant: Grant) -> None:
    """A second one is no fault and changes nothing."""
    first = revoke(grant, by=CAROL, reason="first", now=NOW)
    assert isinstance(first, Success)
    assert revoke(first.value, by=ADA, reason="second", now=NOW + 5) == first


def test_an_expired_grant_is_not_revoked(grant: Grant) -> None:
    """There is nothing to end."""
    refused = revoke(grant, by=CAROL, reason="late", now=grant.expires_at)
    assert isinstance(refused, Failure)
    assert refused.reason is Reason.NOT_ACTIVE


def test_a_reason_is_needed(grant: Grant) -> None:
    """Somebody will ask."""
    assert isinstance(revoke(grant, by=CAROL, reason=" ", now=NOW), Failure)


def test_an_admins_role_is_enough(grant: Grant) -> None:
    """Admin has all rights."""
    root = Person(name="root", full_name="", roles=frozenset({Role.ADMIN}), created_at=0)
    assert isinstance(revoke(grant, by=root, reason="x", now=NOW), Success)
