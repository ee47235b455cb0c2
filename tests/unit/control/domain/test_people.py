"""Roles and rights."""

import pytest

from control.domain.people import RIGHTS, Person, Right, Role


def test_an_admin_has_every_right() -> None:
    """Also those that come later."""
    assert RIGHTS[Role.ADMIN] == frozenset(Right)


@pytest.mark.parametrize(
    ("role", "lacks"),
    [
        (Role.REQUESTER, set(Right) - {Right.REQUEST}),
        (Role.APPROVER, {Right.REQUEST, Right.SEE_RECORDS, Right.ADMINISTER}),
        (Role.AUDITOR, {Right.REQUEST, Right.DECIDE, Right.END_ACCESS, Right.SEE_REQUESTS, Right.ADMINISTER}),
    ],
)
def test_a_role_has_no_more_than_its_own(role: Role, lacks: set[Right]) -> None:
    """What separates the roles."""
    person = Person(name="p", full_name="", roles=frozenset({role}), created_at=0)
    assert {right for right in Right if not person.has(right)} == lacks


def test_somebody_disabled_has_none() -> None:
    """Not even an admin."""
    person = Person(name="p", full_name="", roles=frozenset(Role), created_at=0, disabled_at=1)
    assert not any(person.has(right) for right in Right)
