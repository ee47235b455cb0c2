"""Names, reasons and networks from outside."""

import pytest

from control.domain.results import Failure, Success
from control.domain.texts import networks, postgres_name, prose


@pytest.mark.parametrize("name", ["a", "x" * 63, "é" * 31, "Ada Lovelace", "ada@example.com", "名前", '"; DROP'])
def test_good_names(name: str) -> None:
    """All that PostgreSQL keeps whole."""
    assert postgres_name(name, "name") == Success(name)


@pytest.mark.parametrize(
    "name", ["", "x" * 64, "é" * 32, "a/b", "a\0b", "a\nb", "a\x7fb", "\ud800", " a", "a ", "\u0085"]
)
def test_bad_names(name: str) -> None:
    """Empty, over 63 bytes, a slash, control characters, a lone surrogate, space around it."""
    assert isinstance(postgres_name(name, "name"), Failure)


@pytest.mark.parametrize("text", ["x", "x" * 2_000, "line\nline\ttab", "no\u00a0break", "👩‍💻", "שלום", "'; --"])
def test_good_reasons(text: str) -> None:
    """Anything that people write."""
    assert prose(text, "reason") == Success(text)


@pytest.mark.parametrize("text", ["", "   \n", "x" * 2_001, "bell\a", "esc\x1b[2J", "nul\0", "\udfff", "c1\x9b"])
def test_bad_reasons(text: str) -> None:
    """Nothing, too much, or what a terminal would obey."""
    assert isinstance(prose(text, "reason"), Failure)


@pytest.mark.parametrize("text", ["10.0.0.0/8", "10.0.0.1", "2001:db8::/32", "::1"])
def test_good_networks(text: str) -> None:
    """Both families; an address is a network of one."""
    assert isinstance(networks((text,)), Success)


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0", "host.example", "", "10.0.0.0/33"])
def test_bad_networks(text: str) -> None:
    """Host bits set, or none at all."""
    assert isinstance(networks((text,)), Failure)


def test_networks_are_few() -> None:
    """They travel in the token."""
    assert isinstance(networks(("10.0.0.0/8",) * 8), Success)
    assert isinstance(networks(("10.0.0.0/8",) * 9), Failure)
