"""What is remembered, and what is forgotten."""

from control.recent import Recent


def test_what_is_asked_for_stays() -> None:
    """However much else comes by; and of that no more than twice as much as it is to hold."""
    recent: Recent[int, str] = Recent(10)
    recent.put(-1, "asked for")
    for number in range(1_000):
        recent.put(number, "seen")
        assert recent.get(-1) == "asked for"
        assert len(recent) <= 20
    assert recent.get(999) == "seen"
    assert recent.get(0) is None
