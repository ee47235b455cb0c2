"""Which command a statement was: what PostgreSQL's own command tags say. Pure.

A tag is the command and, for some, counts behind it: `INSERT 0 5`, `SELECT 3`, `CREATE TABLE` (PostgreSQL, "Message
Formats", CommandComplete). SQL is never parsed here: where no tag came (an error, a statement without an end), the
first word of the SQL stands for it, if it is a command's at all (`control.domain.commands`).
"""

from collections.abc import Sequence

from control.domain.commands import command
from control.evidence.timeline import Item


def commands(item: Item) -> Sequence[str]:
    """The commands of a statement in order: a simple query may have several, and none that is known."""
    if tags := item.get("tags"):
        return [named for named in (_without_counts(tag) for tag in tags) if named]
    word = command(item.get("sql") or "")
    return [] if word is None else [word]


def _without_counts(tag: str) -> str:
    words = tag.split(" ")
    while words and words[-1].isascii() and words[-1].isdecimal():
        words.pop()
    return " ".join(words)
