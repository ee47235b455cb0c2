"""Names of tables and functions: as PostgreSQL folds, quotes and qualifies them. Pure."""

import re
from collections.abc import Sequence

_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*", re.ASCII)
MOST = 512
"""Characters of a name that somebody asks for: three parts of 63 bytes, quoted, are less."""


def quoted(parts: Sequence[str]) -> str:
    """A name of these parts, quoted where PostgreSQL needs it: `orders`, `sales."Big Ones"`."""
    return ".".join(part if _PLAIN.fullmatch(part) else '"' + part.replace('"', '""') + '"' for part in parts if part)


def split(name: str) -> list[str]:
    """The parts of a name, each still quoted as it is."""
    parts, start, inside = [], 0, False
    for place, character in enumerate(name):
        if character == '"':
            inside = not inside
        elif character == "." and not inside:
            parts.append(name[start:place])
            start = place + 1
    return [*parts, name[start:]]


def tails(name: str) -> list[str]:
    """A qualified name, and what is left of it without its schema: either finds it."""
    parts = split(name)
    return [".".join(parts[start:]) for start in range(len(parts))]


def folded(name: str) -> str:
    """A name as PostgreSQL reads it: in lower case but for what is quoted, and with quotes only where it needs them."""
    parts = []
    for part in split(name.strip()[:MOST]):
        exact = len(part) > 1 and part[0] == part[-1] == '"'
        parts.append(part[1:-1].replace('""', '"') if exact else part.lower())
    return quoted(parts)
