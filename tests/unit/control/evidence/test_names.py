"""Names: folding, quoting, splitting."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.evidence.names import folded, quoted, split, tails


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("Orders", "orders"),
        ("sales.Orders", "sales.orders"),
        ('"orders"', "orders"),
        ('Sales."Big Ones"', 'sales."Big Ones"'),
        ('"a.b"', '"a.b"'),
        ('"say ""hi"""', '"say ""hi"""'),
        (" orders ", "orders"),
        ('"', '""""'),
        ("", ""),
    ],
)
def test_what_somebody_asks_for(asked: str, meant: str) -> None:
    """Is read as PostgreSQL reads it."""
    assert folded(asked) == meant


def test_tails() -> None:
    """A name is found with its schema and without."""
    assert tails('db.sales."a.b"') == ['db.sales."a.b"', 'sales."a.b"', '"a.b"']


@given(st.lists(st.text(min_size=1), min_size=1, max_size=3))
def test_a_quoted_name_has_its_parts(parts: list[str]) -> None:
    """Whatever is in them: none can look like two."""
    name = quoted(parts)
    assert [quoted([part]) for part in parts] == split(name)
    if len(name) < 500:
        assert folded(name) == name.strip() == folded(folded(name))
