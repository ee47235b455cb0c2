# cython: annotation_typing=False, binding=False
"""The queue of what PostgreSQL owes an answer for: how it is read, and how it is taken off again.

It answers in order (PostgreSQL, "Message Flow"), so whatever is answered tells of all in front of it. Owns what is said
of a queue by looking at it: what comes next, what was done or skipped, whether it is too long. What a message means for
it is `proxy.wire.tracker`'s, the steps themselves are `proxy.wire.steps`'s.
"""

from collections import deque
from typing import TypeAlias

from proxy.wire.statements import Name, PreparedStatements
from proxy.wire.steps import Kind, Step

MOST_OPEN = 8_192
"""More than keeps PostgreSQL busy, and more than it can answer (by 5 bytes at least) before it must send something: it
gathers 8 kB of answers where no Sync tells it to send them (PQ_SEND_BUFFER_SIZE)."""
EXTENDED, _MARKERS = Kind.EXTENDED, Kind.EXTENDED | Kind.COPY_END

Queue: TypeAlias = "deque[Step | Name]"
"""The oldest first."""


def foremost(queue: Queue) -> Step | None:
    """The oldest step but for markers; a marker where there is nothing else."""
    step = queue[0] if queue else None
    if step is not None and step.kind & _MARKERS:
        for step in queue:
            if not step.kind & _MARKERS:
                break
    return step  # type: ignore[return-value]  # a Name is a marker


def running(queue: Queue) -> tuple[Step, ...]:
    """The statements in it."""
    return tuple(step for step in queue if isinstance(step, Step) and step.statement)


def reach(queue: Queue, names: PreparedStatements, step: Step) -> bool:
    """Take the markers in front of `step` off: they were done. Whether PostgreSQL has answered any."""
    answered = False
    while queue[0] is not step:
        answered = answered or queue[0].kind == EXTENDED
        _drop_marker(queue, names)
    return answered


def pass_by(queue: Queue, names: PreparedStatements, count: int) -> None:
    """Take so many answered markers off: they were done."""
    while count and queue and queue[0].kind & _MARKERS:
        count -= queue[0].kind == EXTENDED
        _drop_marker(queue, names)


def _drop_marker(queue: Queue, names: PreparedStatements) -> None:
    marker = queue.popleft()
    if isinstance(marker, Name):
        names.settle(marker)


def skip(queue: Queue, names: PreparedStatements) -> list[Step]:
    """Take what PostgreSQL skips off, up to the Sync where it goes on. Returns the statements, for their ends."""
    skipped: list[Step] = []
    while queue and queue[0].kind != Kind.SYNC:
        step = queue.popleft()
        name = step if isinstance(step, Name) else step.name
        if step.statement == 0 and name is not None:
            name.asked.popleft()
            names.forget(name)
        elif isinstance(step, Step) and step.statement:
            step.skipped = step.sqlstate is None
            skipped.append(step)
    return skipped


def one_round(queue: Queue) -> bool:
    """Whether what is open ends with one commit: a Sync, or a Query, ends a round."""
    kinds = [step.kind for step in queue if step.statement or step.kind == Kind.SYNC]
    while kinds[-2:] == [Kind.SYNC, Kind.SYNC]:
        kinds.pop()  # A round in which nothing is asked commits nothing.
    return all(kind == Kind.EXECUTE for kind in kinds[:-1])


def wants_copy_data(queue: Queue) -> bool:
    """Whether PostgreSQL waits for data of a COPY that the client has not ended."""
    copying = queue[0] if queue else None
    if not isinstance(copying, Step) or copying.copying not in ("in", "both"):
        return False
    return all(one.kind != Kind.COPY_END for one in queue)


def crowded(queue: Queue) -> bool:
    """Whether too much is open. Not where PostgreSQL takes data, because then it goes on only when it hears more."""
    return len(queue) > MOST_OPEN and not wants_copy_data(queue)


def skips_no_more(queue: Queue) -> bool:
    """Of a queue of which PostgreSQL skips what is in front of a Sync: whether that Sync is on its way to it."""
    return bool(queue) and queue[0].kind == Kind.SYNC


def withdraw(queue: Queue, first: int) -> list[Step]:
    """Take statement `first` and all behind it off the queue: they never went on. Returns them, for their ends."""
    withdrawn: list[Step] = []
    while queue and any(one.statement >= first for one in queue):
        one = queue.pop()
        if isinstance(one, Step) and one.statement:
            one.skipped = True
            withdrawn.append(one)
    return withdrawn[::-1]


def drop_swallowed_syncs(queue: Queue) -> tuple[int, bool]:
    """Drop the Syncs behind the COPY in front that PostgreSQL read, and ignored, while it took data; returns how many.

    libpq sends one with Execute, before it knows that a COPY begins, and another one behind CopyDone. Where the COPY
    failed, perhaps before it read any, one dropped here may be answered all the same. So what is returned too is
    whether it could still be told what is run and what is skipped: where CopyDone, and for an Execute the Sync, follow.
    """
    copying, dropped = queue.popleft(), 0
    while queue and queue[0].kind == Kind.SYNC:
        queue.popleft()
        dropped += 1
    told_apart = not queue
    if queue and queue[0].kind == Kind.COPY_END:
        queue.popleft()
        told_apart = not queue or copying.kind == Kind.QUERY or queue[0].kind == Kind.SYNC
    queue.appendleft(copying)
    return dropped, told_apart


def ends_skipping(queue: Queue) -> bool | None:
    """Whether a ReadyForQuery behind a failed COPY is of the Sync up to which all is skipped, or a spare one.

    None where nobody can tell.
    """
    kinds = [step.kind for step in queue if step.kind != Kind.COPY_END]
    if Kind.SYNC in kinds:
        return True if kinds[0] == Kind.SYNC else None
    return not kinds
