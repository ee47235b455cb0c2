"""Names and texts of accounts: harmless, unmistakable, and spelled so that SQL can do nothing else with them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.account_names import Mark, account_name, identifier, literal, mark_text, read_mark, timestamp
from tests.harness.tokens import grant

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(TEXTS.filter(lambda text: len(text.encode()) <= 63), TEXTS)
def test_an_account_has_a_name_of_63_harmless_bytes(person: str, grant_id: str) -> None:
    """It shows the person as far as it can, and of the grant nothing is cut."""
    name = account_name(grant(person=person, id=grant_id))
    assert name.startswith("curfew_")
    assert len(name.encode()) <= 63
    assert name.isascii()
    assert name.isprintable()
    assert not set(name) & set(" \"'\\;")


def test_the_usual_name() -> None:
    """As the design has it; a long subject is cut, the grant never."""
    assert account_name(grant(person="alice", id="grt_0123456789abcdef")) == "curfew_alice_grt_0123456789abcdef"
    assert account_name(grant(person="a" * 63, id="grt_0123456789abcdef")) == f"curfew_{'a' * 35}_grt_0123456789abcdef"


@given(TEXTS, TEXTS)
def test_two_odd_grants_never_share_a_name_by_being_cut(first: str, second: str) -> None:
    """What is replaced or too long is hashed."""
    names = {account_name(grant(person="p", id=text)) for text in (first, second)}
    assert len(names) == len({first, second})


@given(TEXTS)
def test_a_mark_is_read_as_it_was_written(text: str) -> None:
    """In ASCII alone, so that a database of any encoding can hold it."""
    mark = Mark(grant=text, person=text, identity="elevated", until=1.5, databases=[text], before=text)
    assert mark_text(mark).isascii()
    assert read_mark(mark_text(mark)) == mark


@pytest.mark.parametrize("comment", [None, "", "a role", "Curfew account ", "Curfew account {}", "Curfew account 1"])
def test_other_comments_are_no_marks(comment: str | None) -> None:
    """Whoever wrote them."""
    assert read_mark(comment) is None


def test_spelling() -> None:
    """Every quote is doubled, and a backslash is one whatever the server's settings are."""
    assert identifier('a"b') == '"a""b"'
    assert literal("o'b") == "'o''b'"
    assert literal("\\'") == " E'\\\\'''"
    for spell in (identifier, literal):
        with pytest.raises(ValueError, match="zero byte"):
            spell("a\0b")


def test_a_time_beyond_what_there_is() -> None:
    """Is the last one that can be said."""
    assert timestamp(1e18) == "9999-12-31T23:59:59.000000+00:00"
