"""Durations and times as people write and read them. Pure: the clock and the time zone are given, or the system's."""

import re
from datetime import UTC, datetime, timedelta

_DURATION = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?", re.ASCII)
_SECONDS = (86_400, 3_600, 60, 1)
_UNITS = "dhms"
_MS = 1_000


def parse_duration(text: str) -> int:
    """The seconds in `90s`, `15m`, `1h30m` or `2d`. Raises ValueError."""
    match = _DURATION.fullmatch(text.strip().lower())
    seconds = 0 if match is None else sum(int(n or 0) * unit for n, unit in zip(match.groups(), _SECONDS, strict=True))
    if seconds <= 0:
        raise ValueError(f"{text!r} is no duration; write for instance 90s, 15m, 1h30m or 2d")
    return seconds


def show_duration(seconds: float) -> str:
    """The two largest units of a length of time: `1h30m`, `45s`; under a second `12 ms`."""
    if seconds < 0:
        return f"-{show_duration(-seconds)}"
    if 0 < seconds < 1e-5:  # noqa: PLR2004 nobody asks how many nanoseconds
        return "<0.01 ms"
    if seconds < 1:
        return f"{seconds * _MS:.2g} ms" if seconds < 1 / _MS else f"{seconds * _MS:.0f} ms"
    if seconds < 10:  # noqa: PLR2004 below ten seconds a decimal says something
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    rest = round(seconds)
    parts = []
    for unit, letter in zip(_SECONDS, _UNITS, strict=True):
        count, rest = divmod(rest, unit)
        parts.append(f"{count}{letter}" if count else "")
    first = next(i for i, part in enumerate(parts) if part)
    return "".join(parts[first : first + 2])


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


def show_offset(seconds: float) -> str:
    """A position in a replay: `0:01.204`, `1:02:03.004`."""
    milliseconds = max(0, round(seconds * _MS))
    minutes, rest = divmod(milliseconds, 60 * _MS)
    hours, minutes = divmod(minutes, 60)
    position = f"{rest // _MS:02d}.{rest % _MS:03d}"
    return f"{hours}:{minutes:02d}:{position}" if hours else f"{minutes}:{position}"


def _distance(delta: timedelta) -> str:
    seconds = round(delta.total_seconds())
    if seconds == 0:
        return "now"
    return f"in {show_duration(seconds)}" if seconds > 0 else f"{show_duration(-seconds)} ago"
