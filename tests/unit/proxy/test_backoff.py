"""Waits grow to their bound, and begin anew after success."""

from proxy.backoff import Backoff


def test_waits_double_up_to_the_bound_with_jitter() -> None:
    """Each lies between half of its bound and the whole of it."""
    backoff = Backoff(1, 5)
    for bound in (1, 2, 4, 5, 5, 5):
        assert bound / 2 <= backoff.next_s() <= bound


def test_waits_are_not_in_step() -> None:
    """Two proxies that lost control at once do not come back at once."""
    assert len({Backoff(1, 5).next_s() for _ in range(10)}) > 1


def test_reset_begins_anew() -> None:
    """After success the first wait is short again."""
    backoff = Backoff(1, 1000)
    for _ in range(5):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() <= 1
