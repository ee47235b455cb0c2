"""Amounts of data in words."""

import pytest

from control import sizes


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "0 bytes"), (999, "999 bytes"), (1_234, "1.2 kB"), (99_600_000, "100 MB"), (3e15, "3000 TB")],
)
def test_sizes(count: int | None, text: str) -> None:
    """In the units of the field."""
    assert sizes.show_size(count) == text
