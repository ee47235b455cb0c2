"""What may be asked for."""

from dataclasses import replace

import pytest

from control.domain.drafts import Draft, Limits, submit
from control.domain.people import Person, Role
from control.domain.requests import Request
from control.domain.results import Failure, Reason, Result, Success
from tests.unit.control.desk import TARGETS

LIMITS = Limits(max_duration_s=1_000, default_duration_s=100, request_ttl_s=60)
ADA = Person(name="ada", full_name="", roles=frozenset({Role.REQUESTER}), created_at=0)
DRAFT = Draft(target="orders", profile="readonly", reason=" look ")


def ask(draft: Draft, by: Person = ADA) -> Result[Request]:
    """Submit it."""
    return submit(draft, by=by, targets=TARGETS, limits=LIMITS, request_id="req_1", now=5)


def test_what_is_left_out_has_its_default() -> None:
    """The target's own database, the default duration."""
    made = ask(DRAFT)
    assert isinstance(made, Success)
    request = made.value
    assert (request.databases, request.duration_s, request.reason) == (("shop",), 100, "look")
    assert (request.created_at, request.pending_until) == (5, 5 + 60_000_000_000)


@pytest.mark.parametrize(
    "draft",
    [
        replace(DRAFT, databases=("*",)),
        replace(DRAFT, databases=("any", "of", "them")),
        replace(DRAFT, target="narrow", databases=("one", "two", "one")),
        replace(DRAFT, duration_s=1),
        replace(DRAFT, duration_s=1_000),
        replace(DRAFT, max_sessions=1),
        replace(DRAFT, addresses=("10.0.0.0/8", "::1")),
        replace(DRAFT, certificate="A" * 43),
    ],
)
def test_what_may_be_asked_for(draft: Draft) -> None:
    """Within the target and the limits."""
    assert isinstance(ask(draft), Success)


@pytest.mark.parametrize(
    "draft",
    [
        replace(DRAFT, target="nowhere"),
        replace(DRAFT, profile="root"),
        replace(DRAFT, target="narrow", databases=("three",)),
        replace(DRAFT, target="narrow", databases=("*",)),
        replace(DRAFT, databases=()),
        replace(DRAFT, databases=("*", "shop")),
        replace(DRAFT, databases=tuple(f"d{n}" for n in range(17))),
        replace(DRAFT, databases=("a/b",)),
        replace(DRAFT, databases=("x" * 64,)),
        replace(DRAFT, duration_s=0),
        replace(DRAFT, duration_s=1_001),
        replace(DRAFT, max_sessions=0),
        replace(DRAFT, max_sessions=10_001),
        replace(DRAFT, reason=" "),
        replace(DRAFT, reason="\x1b"),
        replace(DRAFT, addresses=("10.0.0.1/8",)),
        replace(DRAFT, certificate=""),
        replace(DRAFT, certificate="A" * 42),
        replace(DRAFT, certificate="A" * 43 + "="),
        replace(DRAFT, certificate="A" * 42 + "B"),
        replace(DRAFT, certificate="A" * 42 + "/"),
    ],
)
def test_what_may_not(draft: Draft) -> None:
    """Each is invalid, and says so."""
    refused = ask(draft)
    assert isinstance(refused, Failure)
    assert refused.reason is Reason.INVALID
    assert refused.detail


def test_asking_takes_the_role() -> None:
    """An auditor asks for nothing."""
    refused = ask(DRAFT, replace(ADA, roles=frozenset({Role.AUDITOR})))
    assert isinstance(refused, Failure)
    assert refused.reason is Reason.FORBIDDEN
