"""The signing keys' life by the clock."""

from control.domain.keyring import ANNOUNCE_NS, SigningKey, State, current, published, state

OLD = SigningKey(kid="old", x="", created_at=0, active_from=0, signed_until=500)
NEW = SigningKey(kid="new", x="", created_at=100, active_from=200)
RING = [OLD, NEW]


def test_a_new_key_is_announced_before_it_signs() -> None:
    """Proxies know it by then."""
    assert current(RING, 199) == OLD
    assert state(NEW, RING, 199) is State.ANNOUNCED
    assert current(RING, 200) == NEW
    assert published(RING, 100) == RING
    assert ANNOUNCE_NS == 10_000_000_000


def test_a_retired_key_stays_until_its_last_token_has_expired() -> None:
    """And not a moment longer."""
    assert state(OLD, RING, 499) is State.RETIRED
    assert published(RING, 499) == RING
    assert state(OLD, RING, 500) is State.FORGOTTEN
    assert published(RING, 500) == [NEW]


def test_the_current_key_stays_whatever_it_signed() -> None:
    """Nothing signed yet, or all expired: it is still the one."""
    assert published([NEW], 10_000) == [NEW]


def test_an_empty_ring_has_no_current_key() -> None:
    """Nor one whose first key is still to come."""
    assert current([], 0) is None
    assert current([NEW], 0) is None
