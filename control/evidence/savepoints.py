"""Savepoints, as far as PostgreSQL's command tags and the plainest of texts tell. Pure.

A tag says SAVEPOINT, RELEASE or ROLLBACK, and not which savepoint it was, nor whether a ROLLBACK was to one. A text
that is nothing but such commands, in ASCII and without comments, says that too. Any other text is not read: then
everything counts that it can have meant.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

NAME_BYTES = 63
"""PostgreSQL cuts names there (NAMEDATALEN)."""
_LONGEST = 1_000
"""A command that is longer is not plain."""

_NAME = r'(?:(?P<plain>[a-z_][a-z0-9_$]*)|"(?P<quoted>[^"]+)")'
_COMMAND = re.compile(
    rf"""\s*(?:
    (?P<to>(?:rollback|abort)(?:\s+(?:work|transaction))?\s+to(?:\s+savepoint)?|release(?:\s+savepoint)?|savepoint)
      (?:\s+|(?="))  {_NAME}
    | (?P<whole>(?:rollback|abort|commit|end)(?:\s+(?:work|transaction))?(?:\s+and(?:\s+no)?\s+chain)?)
    | begin | start\s+transaction
    )\s*""",
    re.IGNORECASE | re.ASCII | re.VERBOSE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What a text says of a command that is about transactions. `savepoint` is None where it names none."""

    savepoint: str | None
    whole: bool
    """It ends the whole transaction, whether another one follows (AND CHAIN) or not."""


def read(sql: str, tags: int) -> Sequence[Command | None]:
    """What each of the first `tags` commands in `sql` says; None for each from the first one on that is not plain.

    Up to there nothing is open, no quote and no comment, so that a semicolon ends a command and each has its tag.
    """
    found: list[Command | None] = []
    pieces = sql.split(";", tags * 2)
    for piece in pieces:
        if len(found) == tags:
            break
        if not piece.strip(" \t\n\r\f\v"):
            continue
        match = _COMMAND.fullmatch(piece) if len(piece) <= _LONGEST and piece.isascii() else None
        if match is None:
            break
        name = match["quoted"] or (match["plain"] and match["plain"].lower())
        found.append(Command(savepoint=name and name[:NAME_BYTES], whole=match["whole"] is not None))
    return found + [None] * (tags - len(found))


class Savepoints:
    """Those of one transaction, by the positions at which they were made."""

    def __init__(self) -> None:
        self._live: list[tuple[int, str | None]] = []
        self._exact = True
        """What is held alive is alive. Otherwise some of it may be gone, but nothing else is alive."""

    def __bool__(self) -> bool:
        return bool(self._live)

    def clear(self) -> None:
        """The transaction is over."""
        self._live.clear()
        self._exact = True

    def doubt(self) -> None:
        """Something was missed: there may be any savepoint."""
        self._exact = False
        self._live.insert(0, (0, None))

    def make(self, position: int, name: str | None) -> None:
        """SAVEPOINT."""
        self._live.append((position, name))

    def release(self, name: str | None) -> None:
        """RELEASE: that savepoint is gone, and all behind it; the newest in any case."""
        target = self._find(name)
        if target is None:
            self._exact = False
            del self._live[-1:]
        else:
            del self._live[target:]

    def roll_back(self, name: str | None) -> tuple[int, int]:
        """ROLLBACK TO: the position behind which all is undone, and the one behind which anything may be."""
        target = self._find(name)
        if target is None:
            self._exact = False
            return self._live[-1][0], self._live[0][0]
        del self._live[target + 1 :]
        position = self._live[target][0]
        return position, position

    def _find(self, name: str | None) -> int | None:
        """Where the savepoint that `name` means is; None where that is not certain."""
        if not self._exact or name is None:
            return None
        for index in range(len(self._live) - 1, -1, -1):
            known = self._live[index][1]
            if known is None:
                return None
            if known == name:
                return index
        return None
