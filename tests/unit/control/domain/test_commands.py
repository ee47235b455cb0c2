"""Which command a statement is."""

import time

import pytest

from control.domain.commands import command


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("UPDATE orders SET a = 1", "UPDATE"),
        ("  \n\tselect 1", "SELECT"),
        ("((select 1))", "SELECT"),
        ("-- why\n/* and\n * so */ vacuum", "VACUUM"),
        ("/**/DO $$ begin end $$", "DO"),
        ("/* an *unfinished", None),
        ("-- only a comment", None),
        ("", None),
        (";", None),
        ("hunter2", None),
        ("SELECTED", None),
        ("select1", None),
        ("UPDATE_ME", None),
        ("'UPDATE'", None),
        ("\uff35PDATE x", None),
        ("ALTER" + " " * 9_000, "ALTER"),
        (" " * 9_000 + "ALTER", None),
    ],
)
def test_the_first_word_where_it_is_a_commands(sql: str, word: str | None) -> None:
    """And nothing else: whoever sees it may not see what was written."""
    assert command(sql) == word


@pytest.mark.parametrize("piece", ["/*", "/* */", "--\n", " ", "(", "/**", "*/", "/* * "])
def test_hostile_text_takes_no_time(piece: str) -> None:
    """However often something that could begin a comment is said."""
    began = time.perf_counter()
    command(piece * 100_000)
    assert time.perf_counter() - began < 0.5
