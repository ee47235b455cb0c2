"""What became of the work that was open when a session was ended. Pure; judged from what both sides were seen to say.

Two witnesses are heard. The tracker saw every answer up to the backend's death. The keeper read the backend's
transaction id just before it was terminated, and asked PostgreSQL afterwards whether that transaction was committed
(pg_xact_status). Where neither is enough, the answer is "unknown", never a guess.
"""

import re
from dataclasses import dataclass
from typing import Literal, Self

from proxy.contract.record import Outcome, TransactionState
from proxy.wire.steps import Step, one_round
from proxy.wire.tracker import Tracker

Fate = Literal["committed", "aborted", "none"] | None
"""The last transaction's fate by pg_xact_status; "none": it had no id, so it had written nothing; None: not known."""

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
_END = re.compile(r"\b(end|execute)\b", re.IGNORECASE)
_QUOTED = re.compile(r"""(?<![\w$])(?P<tag>\$(?:[^\W\d]\w*)?\$).*?(?P=tag)|'(?:[^']|'')*'|"(?:[^"]|"")*\"""", re.DOTALL)
"""Dollar quotes, texts and names. A dollar inside a name is a part of it (PostgreSQL, "Lexical Structure")."""
_DO = re.compile(r"\bdo\b", re.IGNORECASE)
_DO_COMMITS = re.compile(r"commit|call|language", re.IGNORECASE)
_MISLEADING = re.compile(r"\\|--|/\*|\d\$")
"""With these in a text, what looks like a string may be none, and the other way round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What was going on in a session when its end was decided."""

    state: TransactionState
    """What the last ReadyForQuery had said."""
    open: tuple[Step, ...]
    """The statements of rounds that no ReadyForQuery had closed. They go on noting what becomes of them."""
    running: int | None
    """The first one that was not answered in full."""

    @classmethod
    def of(cls, tracker: Tracker) -> Self:
        """What is going on now."""
        running = tracker.running
        return cls(state=tracker.state, open=tracker.open, running=running[0].statement if running else None)


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


def outcome(tracker: Tracker, scene: Scene, *, fate: Fate) -> Outcome:
    """What became of what was open at the decision. To be asked when the backend is gone and its last words read."""
    if tracker.lost:
        return "unknown"
    if tracker.open:
        return _cut_short(tracker, fate)
    if scene.open:
        # Everything was answered between the decision and the death.
        return "committed before" if tracker.state == "I" and not tracker.failed else "rolled back"
    if scene.state == "I":
        return "nothing open"
    return "rolled back"


def _cut_short(tracker: Tracker, fate: Fate) -> Outcome:
    cut = tracker.open
    one_commit = one_round(tracker.owed) and not any(may_commit_inside(step.sql) for step in cut)
    if tracker.state != "I" and one_commit:
        return "rolled back"
    if fate == "committed":
        return "committed before" if one_commit or (len(cut) == 1 and not cut[0].tags) else "partly committed"
    if any(tag.startswith("COMMIT") for step in cut for tag in step.tags):
        return "partly committed"
    return "rolled back" if one_commit else "unknown"
