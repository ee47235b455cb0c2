"""Durations and times as people write and read them. Pure: the clock and the time zone are given, or the system's."""

import re
from datetime import UTC, datetime, timedelta

from control.durations import show_duration

_DURATION = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?", re.ASCII)
_OFFSET = re.compile(r"(?:(?:(\d{1,5}):)?(\d{1,6}):)?(\d{1,8}(?:\.\d{1,9})?)", re.ASCII)
_SECONDS = (86_400, 3_600, 60, 1)


def parse_duration(text: str) -> int:
    """The seconds in `90s`, `15m`, `1h30m` or `2d`. Raises ValueError."""
    match = _DURATION.fullmatch(text.strip().lower())
    seconds = 0 if match is None else sum(int(n or 0) * unit for n, unit in zip(match.groups(), _SECONDS, strict=True))
    if seconds <= 0:
        raise ValueError(f"{text!r} is no duration; write for instance 90s, 15m, 1h30m or 2d")
    return seconds


def parse_time(text: str) -> datetime:
    """The instant in an RFC 3339 text. Raises ValueError. One without an offset is UTC, as all of the API is."""
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)


def parse_moment(text: str, *, now: datetime) -> datetime:
    """The moment that somebody means: `2h` ago, `now`, `today` and `yesterday` (their beginning), a date or a time.

    Without an offset it is in the zone of `now`, as people read clocks. Raises ValueError.
    """
    word = text.strip().lower()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    named = {"now": now, "today": midnight, "yesterday": midnight - timedelta(days=1)}
    if word in named:
        return named[word]
    if _DURATION.fullmatch(word):
        return now - timedelta(seconds=parse_duration(word))
    try:
        instant = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ValueError(
            f"{text!r} is no time; write for instance 2h (ago), today, yesterday, 2026-11-22 or 2026-11-22T14:05"
        ) from error
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=now.tzinfo)


def show_time(text: str | None, *, now: datetime) -> str:
    """An RFC 3339 text in the zone of `now`, with the distance from it: `14:05 (in 59m)`. Other text stays itself."""
    if text is None:
        return ""
    try:
        instant = parse_time(text)
        local = instant.astimezone(now.tzinfo)
    except (ValueError, OverflowError):
        return text
    form = "%H:%M:%S" if local.date() == now.date() else "%Y-%m-%d %H:%M:%S"
    return f"{local.strftime(form)} ({_distance(instant - now)})"


def local_now() -> datetime:
    """This moment, in the system's own time zone."""
    return datetime.now(UTC).astimezone()


def parse_offset(text: str) -> float:
    """The seconds in a position as `show_offset` writes it, or in a duration. Raises ValueError."""
    match = _OFFSET.fullmatch(text)
    if match is None:
        return float(parse_duration(text))
    hours, minutes, seconds = match.groups()
    return int(hours or 0) * 3_600 + int(minutes or 0) * 60 + float(seconds)


def _distance(delta: timedelta) -> str:
    seconds = round(delta.total_seconds())
    if seconds == 0:
        return "now"
    return f"in {show_duration(seconds)}" if seconds > 0 else f"{show_duration(-seconds)} ago"
