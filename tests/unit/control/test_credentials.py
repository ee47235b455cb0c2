"""API keys and join tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control import credentials


def test_a_new_key_is_read_back() -> None:
    """Also where its secret has underscores, which base64url has."""
    for _ in range(200):
        new = credentials.new_api_key()
        parts = credentials.split_api_key(new.text)
        assert parts is not None
        assert parts[0] == new.id
        assert credentials.matches(parts[1], new.digest)
        assert parts[1] not in new.digest


@pytest.mark.parametrize("text", ["", "cfk", "cfk_", "cfk_a", "cfk_a_", "cfk__secret", "xfk_a_b", "a_b_c", "cfj_x_y"])
def test_what_is_no_key(text: str) -> None:
    """Each a part short."""
    assert credentials.split_api_key(text) is None


@given(st.text(st.characters()))
def test_any_text_is_judged(text: str) -> None:
    """Without an exception, lone surrogates too."""
    parts = credentials.split_api_key(f"cfk_id_{text}")
    assert not credentials.matches(text, credentials.digest(text + "x"))
    assert parts is None or parts == ("id", text)


def test_an_unknown_id_matches_nothing() -> None:
    """Not even the secret that the comparison is made with."""
    assert not credentials.matches("anything", None)
