"""Lengths of time and positions, in words."""

import pytest

from control import durations


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"),
        (0.0004, "0.4 ms"),
        (5e-9, "<0.01 ms"),
        (0.00123, "1 ms"),
        (0.012, "12 ms"),
        (0.9996, "1000 ms"),
        (1.25, "1.2s"),
        (2, "2s"),
        (59.9, "1m"),
        (90, "1m30s"),
        (3600, "1h"),
        (5400, "1h30m"),
        (90_061, "1d1h"),
        (-5, "-5s"),
    ],
)
def test_durations_are_shown_short(seconds: float, text: str) -> None:
    """Two units at most, milliseconds under a second."""
    assert durations.show_duration(seconds) == text


def test_offsets_are_positions_in_a_play() -> None:
    """Minutes, seconds, milliseconds; hours where there are any; before the beginning a minus."""
    assert [durations.show_offset(s) for s in (0, 1.2044, 61, 3723.0, -61)] == [
        "0:00.000",
        "0:01.204",
        "1:01.000",
        "1:02:03.000",
        "-1:01.000",
    ]
