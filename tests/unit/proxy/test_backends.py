"""Transaction ids: 32 bits on the wire of pg_stat_activity, 64 for pg_xact_status."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.backends import widen


def test_within_an_epoch() -> None:
    """Below and above the newest completed one: a running transaction may be on either side."""
    assert widen(740, 750) == 740
    assert widen(760, 750) == 760
    assert widen(750, 750) == 750


def test_across_the_wraparound() -> None:
    """A transaction older than the turn of the epoch belongs to the one before, a newer one to the next."""
    epoch = 1 << 32
    assert widen(epoch - 5, 7 * epoch + 10) == 7 * epoch - 5
    assert widen(3, 8 * epoch - 10) == 8 * epoch + 3


@given(near=st.integers(min_value=1 << 31, max_value=1 << 60), away=st.integers(-(1 << 31), (1 << 31) - 1))
def test_any(near: int, away: int) -> None:
    """Whatever is within 2^31 of the reference is found from its low 32 bits."""
    assert widen((near + away) % (1 << 32), near) == near + away
