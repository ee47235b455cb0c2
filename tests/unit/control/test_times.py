"""Times as people see them."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from control.times import rfc3339, whole_second

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def test_the_form() -> None:
    """RFC 3339, UTC, six digits."""
    assert rfc3339(0) == "1970-01-01T00:00:00.000000Z"
    assert rfc3339(1_795_313_803_250_951_999) == "2026-11-22T02:16:43.250951Z"
    assert whole_second(1_999_999_999) == 1_000_000_000


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_times_sort_as_texts(one: int, other: int) -> None:
    """Whatever a record may hold; and they are what datetime reads."""
    texts = rfc3339(one), rfc3339(other)
    assert (texts[0] <= texts[1]) == (one // 1_000 <= other // 1_000)
    assert (datetime.fromisoformat(texts[0]) - EPOCH) // timedelta(microseconds=1) == one // 1_000
