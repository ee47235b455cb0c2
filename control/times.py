"""Times: control keeps nanoseconds since the epoch, as records do, and shows RFC 3339 in UTC."""

from datetime import UTC, datetime

SECOND = 1_000_000_000
"""Nanoseconds."""


def rfc3339(nanoseconds: int) -> str:
    """`2026-11-22T01:44:00.123456Z`: always six digits and Z, so that times sort as texts (RFC 3339 section 5.1)."""
    seconds, rest = divmod(nanoseconds, SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1_000:06d}Z"


def whole_second(nanoseconds: int) -> int:
    """The start of the second that `nanoseconds` is in: a token's times are whole seconds (RFC 7519 NumericDate)."""
    return nanoseconds - nanoseconds % SECOND
