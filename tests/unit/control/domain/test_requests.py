"""The request's transition table: every state, every action, everybody."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.domain.people import Person, Role
from control.domain.requests import TRANSITIONS, Action, Request, State, as_of, decide
from control.domain.results import Failure, Reason, Success

HOUR = 3_600_000_000_000
DECISIONS = [Action.APPROVE, Action.DENY, Action.WITHDRAW]


def person(name: str, *roles: Role, disabled_at: int | None = None) -> Person:
    """Somebody."""
    return Person(name=name, full_name="", roles=frozenset(roles), created_at=0, disabled_at=disabled_at)


ADA = person("ada", *Role)
CAROL = person("carol", Role.APPROVER)
ROOT = person("root", Role.ADMIN)
BOB = person("bob", Role.REQUESTER, Role.AUDITOR)


def request(state: State = State.PENDING) -> Request:
    """Ada's request, which waits an hour."""
    return Request(
        id="req_1",
        person="ada",
        target="orders",
        profile="dba",
        databases=("shop",),
        duration_s=600,
        reason="x",
        state=state,
        created_at=0,
        pending_until=HOUR,
    )


@pytest.mark.parametrize(("state", "action"), list(itertools.product(State, DECISIONS)))
def test_only_what_the_table_has_happens(state: State, action: Action) -> None:
    """From pending to the action's state, and from everywhere else nowhere."""
    by = ADA if action is Action.WITHDRAW else CAROL
    result = decide(request(state), action, by=by, now=1)
    if (state, action) in TRANSITIONS:
        assert isinstance(result, Success)
        assert (result.value.state, result.value.decided_by) == (TRANSITIONS[state, action], by.name)
        assert result.value.decided_at == 1
    else:
        assert isinstance(result, Failure)
        assert result.reason is Reason.WRONG_STATE


def test_the_table_leaves_pending_only() -> None:
    """The theory in the module's docstring: four states are final."""
    assert {state for state, _ in TRANSITIONS} == {State.PENDING}
    assert set(TRANSITIONS.values()) == set(State) - {State.PENDING}


@pytest.mark.parametrize("action", [Action.APPROVE, Action.DENY])
def test_nobody_decides_their_own(action: Action) -> None:
    """Whatever roles they have."""
    result = decide(request(), action, by=ADA, now=1)
    assert isinstance(result, Failure)
    assert result.reason is Reason.OWN_REQUEST


@pytest.mark.parametrize("by", [BOB, person("dan", Role.APPROVER, disabled_at=0), person("nobody")])
@pytest.mark.parametrize("action", [Action.APPROVE, Action.DENY])
def test_deciding_takes_the_right(action: Action, by: Person) -> None:
    """Another requester, a disabled approver, somebody without roles: none of them."""
    result = decide(request(), action, by=by, now=1)
    assert isinstance(result, Failure)
    assert result.reason is Reason.FORBIDDEN


@pytest.mark.parametrize("by", [CAROL, ROOT, BOB])
def test_only_the_asker_withdraws(by: Person) -> None:
    """Not even an admin."""
    result = decide(request(), Action.WITHDRAW, by=by, now=1)
    assert isinstance(result, Failure)
    assert result.reason is Reason.FORBIDDEN


def test_an_admin_decides_too() -> None:
    """The role has all rights."""
    assert isinstance(decide(request(), Action.APPROVE, by=ROOT, now=1), Success)


def test_time_expires_a_pending_request() -> None:
    """To the nanosecond, and only a pending one."""
    assert as_of(request(), HOUR - 1).state is State.PENDING
    expired = as_of(request(), HOUR)
    assert (expired.state, expired.decided_at) == (State.EXPIRED, HOUR)
    assert as_of(request(State.APPROVED), HOUR).state is State.APPROVED
    result = decide(request(), Action.APPROVE, by=CAROL, now=HOUR)
    assert isinstance(result, Failure)
    assert result.reason is Reason.WRONG_STATE


@pytest.mark.parametrize(
    ("duration_s", "good"), [(None, True), (1, True), (600, True), (601, False), (0, False), (-1, False)]
)
def test_an_approver_gives_less_and_never_more(duration_s: int | None, good: bool) -> None:  # noqa: FBT001 a column
    """Down to a second."""
    result = decide(request(), Action.APPROVE, by=CAROL, now=1, duration_s=duration_s)
    assert isinstance(result, Success) is good
    if isinstance(result, Success):
        assert result.value.duration_s == (duration_s or 600)


@pytest.mark.parametrize(
    ("comment", "kept"), [(None, None), ("  fine ", "fine"), ("  ", None), ("line\nline", "line\nline")]
)
def test_a_comment_is_kept(comment: str | None, kept: str | None) -> None:
    """Trimmed; an empty one is none."""
    result = decide(request(), Action.DENY, by=CAROL, now=1, comment=comment)
    assert isinstance(result, Success)
    assert result.value.comment == kept


@pytest.mark.parametrize("comment", ["x" * 2_001, "\x1b[31m", "\ud800"])
def test_a_bad_comment_is_refused(comment: str) -> None:
    """Too long, an escape sequence, a lone surrogate."""
    assert isinstance(decide(request(), Action.DENY, by=CAROL, now=1, comment=comment), Failure)


@given(
    st.lists(st.tuples(st.sampled_from(DECISIONS), st.sampled_from([ADA, CAROL, ROOT, BOB]), st.integers(0, 2 * HOUR)))
)
def test_a_request_is_decided_once(steps: list[tuple[Action, Person, int]]) -> None:
    """Whatever is tried in whatever order, what was decided first stays."""
    current, decided = request(), None
    for action, by, now in steps:
        result = decide(current, action, by=by, now=now)
        if isinstance(result, Success):
            assert decided is None
            current = decided = result.value
    assert decided is None or current == decided
