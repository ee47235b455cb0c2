"""What the person sees: consoles, tables, JSON. All text from elsewhere passes `harmless` here.

Results go to stdout, everything about them to stderr. Rich honours NO_COLOR and TERM; markup is off, so that no text
can be read as style.
"""

import json
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from control import harmless
from control.client.answers import Page

UNBOUNDED = 1_000_000
"""The width where stdout is no terminal: a pipe's reader wants whole lines."""
LAST_COLUMN = 24
STATES = {
    "pending": "yellow",
    "approved": "green",
    "active": "green",
    "open": "green",
    "lifted": "green",
    "denied": "red",
    "revoked": "red",
}


def console(*, stderr: bool = False, at_least: int = 0) -> Console:
    """A console on today's stdout or stderr, `at_least` so wide: a narrower terminal then wraps lines by itself."""
    stream = sys.stderr if stderr else sys.stdout
    made = Console(file=stream, markup=False, highlight=False, emoji=False)
    made.width = max(made.width, at_least) if stream.isatty() else UNBOUNDED
    return made


def say(text: str) -> None:
    """One line of result."""
    console().print(Text(harmless.line(text)), soft_wrap=True)


def note(text: str) -> None:
    """One line about the result, to stderr."""
    console(stderr=True).print(Text(harmless.line(text)), soft_wrap=True)


def prompt(text: str) -> None:
    """The beginning of a line that the person is to go on with, to stderr."""
    sys.stderr.write(harmless.line(text))
    sys.stderr.flush()


def raw(text: str, *, end: str = "\n") -> None:
    """Text for a program, as it is: the caller has made sure of it."""
    sys.stdout.write(text + end)
    sys.stdout.flush()


def dump(value: object) -> None:
    """`value` as JSON, in ASCII: equal in value to what the API sent, and harmless on a terminal."""
    raw(json.dumps(value, indent=2))


def dump_page(page: Page) -> None:
    """A list as the API has it."""
    dump({"items": page.items, "next": page.next})


def table(columns: Sequence[str], rows: Iterable[Sequence[str | None]], *, empty: str) -> None:
    """A table. Nothing is cut: the last column is folded into the room left, the others stay whole to be copied."""
    cells = [[_cell(column, value) for column, value in zip(columns, row, strict=True)] for row in rows]
    if not cells:
        note(empty)
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    needed = LAST_COLUMN
    for number, column in enumerate(columns[:-1]):
        shown.add_column(column, no_wrap=True)
        needed += 2 + max(len(column), *(row[number].cell_len for row in cells))
    shown.add_column(columns[-1], overflow="fold")
    for row in cells:
        shown.add_row(*row)
    console(at_least=needed).print(shown)


def more(page: Page) -> None:
    """Say that a list goes on."""
    if page.next is not None:
        note(f"there are more than these {len(page.items)}; --limit shows them")


def _cell(column: str, value: str | None) -> Text:
    style = STATES.get(value or "", "") if column == "STATE" else ""
    return Text(harmless.line(value or "-"), style=style)
