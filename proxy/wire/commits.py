"""What may commit before it is done, by its text alone: so that nothing is claimed of a transaction that it died in.

In doubt, everything may. It never parses SQL.
"""

import re
from collections.abc import Sequence

from proxy.wire.steps import Step

_COMMITS = re.compile(
    r"\b(commit|call|prepare\s+transaction|vacuum|cluster|reindex|concurrently|rollback\s+prepared"
    r"|create\s+(database|tablespace|subscription)|drop\s+(database|tablespace|subscription)"
    r"|(pg_)?(create|drop|alter|copy)_(physical_|logical_)?replication_slot|pg_replication_slot_advance)\b"
    r"|(^|;)\s*(end|analy[sz]e|execute)\b",
    re.IGNORECASE,
)
"""What can commit before the statement is done, so that the transaction it died in says nothing of the others.

Replication slots are in no transaction: they are there, or gone, as soon as the server has done it.
"""
_ENDS = ("COMMIT", "ROLLBACK", "PREPARE TRANSACTION")
"""Tags of it."""
_END = re.compile(r"\b(end|execute)\b", re.IGNORECASE)
_QUOTED = re.compile(r"""(?<![\w$])(?P<tag>\$(?:[^\W\d]\w*)?\$).*?(?P=tag)|'(?:[^']|'')*'|"(?:[^"]|"")*\"""", re.DOTALL)
"""Dollar quotes, texts and names. A dollar inside a name is a part of it (PostgreSQL, "Lexical Structure")."""
_DO = re.compile(r"\bdo\b", re.IGNORECASE)
_DO_COMMITS = re.compile(r"commit|call|language", re.IGNORECASE)
_MISLEADING = re.compile(r"\\|--|/\*|\d\$")
"""With these in a text, what looks like a string may be none, and the other way round."""


def may_commit_inside(sql: str) -> bool:
    """Whether the text may commit something before all of it is done. In doubt, yes; no text is in doubt."""
    if not sql:
        return True
    if _MISLEADING.search(sql):
        return any(words.search(sql) is not None for words in (_COMMITS, _DO, _END))
    outside = _QUOTED.sub("''", sql)
    if _COMMITS.search(outside):
        return True
    return _DO.search(outside) is not None and _DO_COMMITS.search(sql) is not None


def in_doubt(steps: Sequence[Step]) -> bool:
    """Whether one of these, which are done, may have ended a transaction, or begun another."""
    if any(tag.startswith(_ENDS) for step in steps for tag in step.tags):
        return True
    return any(map(may_commit_inside, {step.sql for step in steps if not step.skipped}))
