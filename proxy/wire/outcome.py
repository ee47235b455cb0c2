"""What became of the work that was open when a session was ended. Pure; judged from what both sides were seen to say.

Two witnesses are heard. The tracker saw every answer up to the backend's death. The keeper read the backend's
transaction id just before it was terminated, and asked PostgreSQL afterwards whether that transaction was committed
(pg_xact_status). Where neither is enough, the answer is "unknown", never a guess.
"""

import itertools
import re
from dataclasses import dataclass
from typing import Literal, Self

from proxy.contract.record import Outcome, TransactionState
from proxy.wire.commits import may_commit_inside
from proxy.wire.owed import one_round
from proxy.wire.steps import Kind, Step
from proxy.wire.tracker import Tracker

Fate = Literal["committed", "aborted", "none"] | None
"""The last transaction's fate by pg_xact_status; "none": it had no id, so it had written nothing; None: not known."""

_LONE_COMMIT = re.compile(r"\s*(commit|end)(\s+(work|transaction))?\s*;?\s*", re.IGNORECASE)


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


def outcome(tracker: Tracker, scene: Scene, *, fate: Fate) -> Outcome:
    """What became of what was open at the decision. To be asked when the backend is gone and its last words read."""
    if tracker.lost or (tracker.doubtful and (scene.open or tracker.open)):
        return "unknown"
    asked = [step for step in scene.open if not step.skipped]  # The others PostgreSQL has passed over, or never got.
    if not asked and not tracker.open:
        return "nothing open" if scene.state == "I" else "rolled back"
    seen = _Seen(in_transaction=scene.state != "I")
    answered = [step for step in scene.open if step.state is not None]
    for _, steps in itertools.groupby(answered, _round):
        seen.take(list(steps))
    if tracker.open:
        return seen.followed_by(_cut_short(tracker, fate))
    return seen.followed_by(None if tracker.state == "I" else "rolled back")


def _round(step: Step) -> tuple[int, str]:
    """What tells rounds apart: a Query is one by itself; Executes up to a Sync share the transaction's number."""
    number = step.start.rpartition(":")[2]
    return (0, number) if step.kind == Kind.EXECUTE else (step.statement, number)


class _Seen:
    """What was seen to become of rounds that were answered in full, the oldest first."""

    def __init__(self, *, in_transaction: bool) -> None:
        self._pending = in_transaction
        """There is work in a transaction that is not over."""
        self._committed = self._undone = self._doubtful = False

    def take(self, steps: list[Step]) -> None:
        """The statements of one round, which one commit or one failure ends."""
        tags = [tag for step in steps for tag in step.tags]
        rolled_back = any(tag.startswith("ROLLBACK") for tag in tags)  # To a savepoint, too.
        for tag in tags:
            self._pending = not tag.startswith(("COMMIT", "ROLLBACK"))
        self._committed = self._committed or any(tag.startswith("COMMIT") for tag in tags)
        self._undone = self._undone or rolled_back
        failed = [step for step in steps if step.sqlstate is not None]
        over = steps[-1].state == "I"
        if failed:
            self._undone = True
            self._doubtful = self._doubtful or any(map(_hides_commits, failed))
        elif over and (self._pending or not rolled_back):
            self._committed = True
        self._pending = self._pending and not over

    def followed_by(self, rest: Outcome | None) -> Outcome:
        """All of it together, where `rest` became of what came behind; None where nothing did."""
        committed = self._committed or rest in ("committed before", "partly committed")
        undone = self._undone or rest in ("rolled back", "partly committed")
        if committed and undone:
            return "partly committed"
        if self._doubtful or rest == "unknown":
            return "unknown"
        return "rolled back" if undone else "committed before"


def _hides_commits(step: Step) -> bool:
    """Whether it may have committed something of which nothing was heard."""
    return may_commit_inside(step.sql) and not _LONE_COMMIT.fullmatch(step.sql)


def _cut_short(tracker: Tracker, fate: Fate) -> Outcome:
    """What became of what was never answered in full."""
    cut = tracker.open
    one_commit = one_round(tracker.owed) and not any(may_commit_inside(step.sql) for step in cut)
    if tracker.state != "I" and one_commit:
        return "rolled back"
    if fate == "committed":
        whole = one_commit or (len(cut) == 1 and _LONE_COMMIT.fullmatch(cut[0].sql) is not None)
        return "committed before" if whole else "partly committed"
    if any(tag.startswith("COMMIT") for step in cut for tag in step.tags):
        return "partly committed"
    if fate is None and tracker.fatal is None:
        return "unknown"  # Nobody saw it die: it may have committed, and the answer was lost.
    return "rolled back" if one_commit else "unknown"
