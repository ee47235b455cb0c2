"""Counting failures by address."""

import pytest

from control.api.limiter import ADDRESSES, FAILURES, WINDOW_S, FailureCounter


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, in a list's first place."""
    now = [0.0]
    monkeypatch.setattr("control.api.limiter.time.monotonic", lambda: now[0])
    return now


def test_an_address_waits_for_its_window(clock: list[float]) -> None:
    """Then it begins anew; other addresses are not concerned."""
    counter = FailureCounter()
    assert [counter.failed("a") for _ in range(FAILURES)] == [None] * FAILURES
    clock[0] = 10
    assert counter.failed("a") == WINDOW_S - 10
    assert counter.failed("b") is None
    clock[0] = WINDOW_S
    assert counter.failed("a") is None


def test_the_memory_is_bounded(clock: list[float]) -> None:
    """Whoever failed longest ago is forgotten."""
    counter = FailureCounter()
    for _ in range(FAILURES):
        counter.failed("first")
    for number in range(ADDRESSES):
        counter.failed(str(number))
    assert len(counter._counts) == ADDRESSES
    assert counter.failed("first") is None
    assert clock == [0.0]
