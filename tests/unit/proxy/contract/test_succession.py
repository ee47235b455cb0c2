"""What a journal's sessions say of each other: each rule by itself. Real journals are in the tests of both uses."""

import pytest

from proxy.contract.record import Entry
from proxy.contract.succession import beginning, behind, check_place, holds


def entry(number: int, prev: str = "a") -> Entry:
    """A place."""
    return Entry(journal="j", number=number, prev=prev)


def test_what_follows() -> None:
    """The first has nothing before it, the others the hash of the one before."""
    assert beginning("j") == entry(0, "")
    assert behind(entry(3, "x"), "y") == entry(4, "y")


@pytest.mark.parametrize(
    ("found", "missing", "says"),
    [
        (entry(7), 2, "2 sessions before it"),
        (entry(4), 0, "another session was number 4"),
        (entry(5, "b"), 0, "the session before it in its journal is another one"),
    ],
)
def test_what_breaks_it(found: Entry, missing: int, says: str) -> None:
    """A gap, a number again, another session before it."""
    wrong = check_place(found, entry(5))
    assert wrong is not None
    assert wrong.missing == missing
    assert says in str(wrong)
    assert check_place(entry(5), entry(5)) is None


@pytest.mark.parametrize(
    ("promised", "good"),
    [(entry(5), True), (entry(5, "b"), False), (entry(6), False), (entry(4, "b"), True)],
)
def test_what_an_end_promises(promised: Entry, good: bool) -> None:  # noqa: FBT001 a parameter of the test
    """All that had begun by then: the same sessions, or fewer. What is long past is not known here any more."""
    assert holds(promised, entry(5)) is good
