"""Packed sets are sets."""

from hypothesis import given, settings
from hypothesis import strategies as st

from control.store.index.places import BLOCK, common, is_bitmap, merge, pack, unpack

FEW = st.sets(st.integers(0, BLOCK - 1), max_size=50)
MANY = st.builds(lambda step, more: {*range(0, BLOCK, step), *more}, st.integers(1, 15), FEW)
SETS = st.one_of(FEW, MANY)


@settings(deadline=None, max_examples=50)
@given(SETS, SETS)
def test_a_set_comes_back_in_order(one: set[int], more: set[int]) -> None:
    """As a list or as a bitmap, which never takes more room than a list would."""
    packed = pack(one)
    assert list(unpack(packed)) == sorted(one)
    assert len(packed) == min(2 * len(one), BLOCK // 8)
    assert is_bitmap(packed) is (2 * len(one) >= BLOCK // 8)
    assert list(unpack(merge(packed, more))) == sorted(one | more)


@settings(deadline=None, max_examples=50)
@given(st.lists(SETS, min_size=1, max_size=4))
def test_what_is_common(sets: list[set[int]]) -> None:
    """To lists, bitmaps and both."""
    assert list(common([pack(one) for one in sets])) == sorted(set.intersection(*sets))
