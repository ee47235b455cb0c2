"""Lengths of time and positions in a session, in words that services and command share. Pure."""

_SECONDS = (86_400, 3_600, 60, 1)
_UNITS = "dhms"
_MS = 1_000


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


def show_offset(seconds: float) -> str:
    """A position in a replay: `0:01.204`, `1:02:03.004`; `-5:00.000` before its beginning."""
    if seconds < 0:
        return f"-{show_offset(-seconds)}"
    milliseconds = round(seconds * _MS)
    minutes, rest = divmod(milliseconds, 60 * _MS)
    hours, minutes = divmod(minutes, 60)
    position = f"{rest // _MS:02d}.{rest % _MS:03d}"
    return f"{hours}:{minutes:02d}:{position}" if hours else f"{minutes}:{position}"
