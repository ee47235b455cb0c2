"""The table in proxy/README.md of what the person sees when a grant ends: its rows are what the libraries say."""

import re
from pathlib import Path

import pytest

from tests.clients import ends
from tests.clients.programs import PROGRAMS, named
from tests.harness.proxy import Proxy

HERE = ["psql", "psycopg", "asyncpg"]


async def test_rows_are_true(logged_proxy: Proxy) -> None:
    """Of the clients that every checkout has; `python -m tests.clients ends` renews all of them.

    Of another version of a library's, its own words may be others.
    """
    programs, rows = named(HERE), ends.read_rows()
    seen = ends.rows_of(await ends.observe(programs, logged_proxy))
    for program in programs:
        version, *shown = rows[program.name]
        same = version == program.version()
        assert [cell if same else bare(cell) for cell in seen[program.name]] == [
            cell if same else bare(cell) for cell in shown
        ]


def bare(cell: str) -> str:
    """A cell without what a library says itself."""
    return re.sub("“.*”", "“”", cell)


def test_every_client_has_a_row() -> None:
    """In the campaign's order, with a version and a cell for each state."""
    rows = ends.read_rows()
    assert list(rows) == [program.name for program in PROGRAMS]
    assert {len(cells) for cells in rows.values()} == {1 + len(ends.STATES)}


def test_rows_are_read_as_written(tmp_path: Path) -> None:
    """And what stands around the table stays."""
    page, rows = tmp_path / "page", {"a": ["1.2", "1", "2", "3", "4"], "b c": ["1, 2", "`x`: “y”", "-", "-", "-"]}
    page.write_text(f"before\n{ends.BEGIN}\nold\n{ends.END}\nafter\n")
    ends.write_rows(rows, page)
    assert ends.read_rows(page) == rows
    assert page.read_text().startswith(f"before\n{ends.BEGIN}\n| client")
    assert page.read_text().endswith(f"|\n{ends.END}\nafter\n")


def said(text: str, *, late: bool = False, detail: str = "", hint: str = "") -> ends.Said:
    """Last words."""
    return ends.Said(late=late, error="Error", sqlstate="57P01", text=text, detail=detail, hint=hint)


@pytest.mark.parametrize(
    ("state", "words", "cell"),
    [
        ("query", said("gone after 12 s"), "`Error` 57P01: “gone after N s”"),
        ("idle", said("gone", late=True), "at the next use: `Error` 57P01: “gone”"),
        ("idle", said(ends.MESSAGE), "at once: `Error` 57P01: the reason"),
        ("copy-in", said("gone", late=True), "once its data has ended: `Error` 57P01: “gone”"),
        ("query", said(f"{ends.MESSAGE} / {ends.DETAIL}"), "`Error` 57P01: the reason, detail"),
        (
            "query",
            said(ends.MESSAGE, detail=ends.DETAIL, hint=ends.HINT),
            "`Error` 57P01: the reason; detail and hint as fields",
        ),
        ("query", said("gone", hint=ends.HINT), "`Error` 57P01: “gone”"),
    ],
)
def test_cells(state: str, words: ends.Said, cell: str) -> None:
    """The reason is named only where the person sees it; everything else is the library's own words."""
    assert words.cell(state) == cell


def test_what_is_alike() -> None:
    """As much told, of the same kind, as soon; whose words they are does not matter."""
    ours, theirs = said(f"{ends.MESSAGE} {ends.HINT}"), said(f"FATAL: {ends.ADMINISTRATOR}")
    assert ours.is_like(theirs)
    assert not said("gone").is_like(theirs)
    assert not said(ends.MESSAGE, late=True).is_like(theirs)
    assert said("gone").is_like(said("SSL connection has been closed"))
