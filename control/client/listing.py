"""Lists: what each command that shows one does with a page of it, for people or for programs."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from control.client import screen
from control.client.answers import Page, read

One = TypeVar("One")


def show(
    page: Page,
    of: type[One],
    columns: Sequence[str],
    row: Callable[[One], Sequence[str | None]],
    *,
    json: bool,
    empty: str,
) -> None:
    """`page`, whose items are each `of` this kind, as a table, or as the API has it."""
    if json:
        screen.dump_page(page)
        return
    items: list[One] = read(list[of], page.items)  # type: ignore[valid-type] # a type in hand is one
    screen.table(columns, map(row, items), empty=empty)
    screen.more(page)
