"""Text from a record cannot act on the terminal that shows it."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control import harmless


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain äöü 日本語 🐘", "plain äöü 日本語 🐘"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("\x9b31m\x85\x7f\x00", "\\x9b31m\\x85\\x7f\\x00"),
        ("a\u202eb\u2066c\u200f", "a\\u202eb\\u2066c\\u200f"),
        ("zero\u200bwidth\ufeff\u00ad", "zero\\u200bwidth\\ufeff\\xad"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("tag\U000e0041 selector\ufe0f filler\u3164", "tag\\U000e0041 selector\\ufe0f filler\\u3164"),
        ("\ud800", "\\ud800"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
    ],
)
def test_dangerous_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    """Controls, escapes, bidi, invisible and separator characters are visible; all else is itself."""
    assert harmless.line(text) == shown


@given(st.text(st.characters()))
def test_nothing_unprintable_ever_comes_through(text: str) -> None:
    """Whatever goes in, what comes out is printable: no control, format, surrogate or separator but the space."""
    for shown in [harmless.line(text), *harmless.lines(text)]:
        assert all(unicodedata.category(c)[0] != "C" and (c == " " or unicodedata.category(c)[0] != "Z") for c in shown)


def test_only_a_newline_ends_a_line() -> None:
    """Other characters that terminals or Python take for line ends stay inside their line, as escapes."""
    assert harmless.lines("a\nb\rc\x0bd\u2028e") == ["a", "b\\rc\\x0bd\\u2028e"]


def test_tabs_become_spaces_where_lines_are_kept() -> None:
    """A tab stands for spaces up to the next multiple of eight, also behind an escape."""
    assert harmless.lines("a\tb\n\x1b\tc") == ["a       b", "\\x1b    c"]


def test_what_harms_can_be_shown_in_another_way() -> None:
    """As a document marks it, so that an escape is told from text that looks like one; line ends may be kept."""
    assert harmless.replaced("a\\x1b\x1b\nb\r\u202eä", lambda one: f"<{ord(one):x}>", keep="\n") == (
        "a\\x1b<1b>\nb<d><202e>ä"
    )
