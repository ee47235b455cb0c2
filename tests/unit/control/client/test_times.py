"""Durations and times as people write and read them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from control.client import times

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("1h30m", 5400), ("1h", 3600), ("2d", 172_800), (" 1H5S ", 3605)],
)
def test_durations_are_read(text: str, seconds: int) -> None:
    """Units from days to seconds, the larger first."""
    assert times.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "90", "1.5h", "m", "-5m", "5m1h", "1h 30m", "\u0661s", "1" * 30 + "s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Nothing is guessed: a bare number has no unit, and nothing lasts no time."""
    with pytest.raises(ValueError, match="is no duration"):
        times.parse_duration(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2h", "2026-11-22T09:00:00+01:00"),
        ("1d12h", "2026-11-20T23:00:00+01:00"),
        ("now", "2026-11-22T11:00:00+01:00"),
        (" Today ", "2026-11-22T00:00:00+01:00"),
        ("yesterday", "2026-11-21T00:00:00+01:00"),
        ("2026-11-20", "2026-11-20T00:00:00+01:00"),
        ("2026-11-20 14:05", "2026-11-20T14:05:00+01:00"),
        ("2026-11-20T14:05:06Z", "2026-11-20T14:05:06+00:00"),
    ],
)
def test_moments_are_read(text: str, moment: str) -> None:
    """How long ago, or when, in the reader's own zone where no other is said."""
    now = datetime(2026, 11, 22, 11, tzinfo=timezone(timedelta(hours=1)))
    assert times.parse_moment(text, now=now).isoformat() == moment


@pytest.mark.parametrize("text", ["", "0s", "5", "tomorrow", "14:05", "-2h", "2026-13-01"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    """With examples."""
    with pytest.raises(ValueError, match=r"is no (time|duration); write for instance"):
        times.parse_moment(text, now=NOON)


def test_times_are_shown_in_local_time_with_their_distance() -> None:
    """Today's time needs no date; what is past and what is to come is said."""
    here = timezone(timedelta(hours=2))
    now = NOON.astimezone(here)
    assert times.show_time("2026-11-22T12:59:00Z", now=now) == "14:59:00 (in 59m)"
    assert times.show_time("2026-11-22T11:58:30Z", now=now) == "13:58:30 (1m30s ago)"
    assert times.show_time("2026-11-21T12:00:00+00:00", now=now) == "2026-11-21 14:00:00 (1d ago)"
    assert times.show_time("2026-11-22T12:00:00", now=now) == "14:00:00 (now)"


def test_a_time_that_is_none_is_shown_as_it_came() -> None:
    """A service of another version must not break a listing."""
    assert times.show_time("soon", now=NOON) == "soon"
    west = NOON.astimezone(timezone(timedelta(hours=-2)))
    assert times.show_time("0001-01-01T00:00:00Z", now=west) == "0001-01-01T00:00:00Z"
    assert times.show_time(None, now=NOON) == ""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1:30", 90), ("1:02:03.5", 3723.5), ("0:00.001", 0.001), ("90s", 90), ("1h", 3600)],
)
def test_positions_are_read(text: str, seconds: float) -> None:
    """As they are shown, and as durations."""
    assert times.parse_offset(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "-1:00", "1:2:3:4", "1:", ":1", "1e3"])
def test_what_is_no_position(text: str) -> None:
    """It is refused."""
    with pytest.raises(ValueError, match="no duration"):
        times.parse_offset(text)
