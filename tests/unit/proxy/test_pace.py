"""When a refusal is due: at whole steps, whatever the work before it took."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.pace import STEP_S, due

moments = st.floats(0, 1e6)


@given(since=moments, work=st.floats(0, STEP_S * 0.999), more=st.floats(0, STEP_S * 0.999))
def test_work_within_a_step_does_not_show(since: float, work: float, more: float) -> None:
    """Two refusals that took different times, both within the first step, are due at the same moment."""
    assert due(since, since + work) == due(since, since + more) == since + STEP_S


@given(since=moments, work=st.floats(0, 60))
def test_long_work_shows_in_whole_steps_alone(since: float, work: float) -> None:
    """Never at once, never much later than a step."""
    now = since + work
    wait = due(since, now) - now
    assert -1e-9 <= wait <= STEP_S + 1e-9
    steps = (due(since, now) - since) / STEP_S
    assert abs(steps - round(steps)) < 1e-6 * max(1.0, since)
    assert round(steps) >= 1


def test_a_clock_that_was_never_set() -> None:
    """A refusal without a token before it waits for no more than a step either."""
    assert 0 < due(0.0, 12_345.678) - 12_345.678 <= STEP_S
