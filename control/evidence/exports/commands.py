"""Which command a statement was: what PostgreSQL's own command tags say. Pure.

A tag is the command and, for some, counts behind it: `INSERT 0 5`, `SELECT 3`, `CREATE TABLE` (PostgreSQL, "Message
Formats", CommandComplete). SQL is never parsed here: where no tag came (an error, a statement without an end), the
first word of the SQL stands for it, if it is a command's at all (`control.domain.commands`).
"""

import enum
from collections.abc import Iterable, Sequence
from typing import Final

from control.domain.commands import command
from control.evidence.timeline import Item


class Effect(enum.StrEnum):
    """What a command does to data, or to what data is kept in."""

    READ = "read"
    QUERY = "query"
    CREATE = "create"
    WRITE = "write"
    UPDATE = "update"
    DELETE = "delete"


EFFECTS: Final = {
    "ALTER": Effect.UPDATE,
    "COMMENT": Effect.UPDATE,
    "CREATE": Effect.CREATE,
    "DELETE": Effect.DELETE,
    "DROP": Effect.DELETE,
    "EXPLAIN": Effect.QUERY,
    "FETCH": Effect.QUERY,
    "GRANT": Effect.UPDATE,
    "INSERT": Effect.WRITE,
    "MERGE": Effect.WRITE,
    "REFRESH": Effect.UPDATE,
    "REVOKE": Effect.UPDATE,
    "SECURITY": Effect.UPDATE,
    "SELECT": Effect.QUERY,
    "SHOW": Effect.QUERY,
    "TABLE": Effect.QUERY,
    "TRUNCATE": Effect.DELETE,
    "UPDATE": Effect.UPDATE,
    "VALUES": Effect.QUERY,
}
"""By the first word of a command tag. What is not here has none that a schema of others would know."""
COPIED: Final = {"in": Effect.WRITE, "out": Effect.READ}
"""By the direction of a COPY."""


def effects(named: Iterable[str]) -> set[Effect]:
    """What these commands do."""
    return {EFFECTS[first] for one in named if (first := one.partition(" ")[0]) in EFFECTS}


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
