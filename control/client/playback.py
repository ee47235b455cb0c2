"""A session's timeline as a play: what is shown, when, and in which words. Pure but for `play`, which waits and prints.

Each step knows its moment and its parts; parts of a record stand behind a gutter (`> ` for SQL, `+ ` where a line is
folded), so that no text of a session can look like a line of the replay itself. Items become steps as they come, and no
more is held than results that are still to come: a session of any length can be played.
"""

import heapq
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
from rich.cells import chop_cells
from rich.console import Console
from rich.text import Text

from control import harmless
from control.durations import show_duration, show_offset
from control.sizes import show_size

MIN_WIDTH = 20
MARGIN = 20
OUTLINE = {
    "start": "cyan",
    "notice": "yellow",
    "cancel": "yellow",
    "extended": "yellow",
    "copy": "green",
    "refused": "bold red",
    "end": "bold cyan",
    "request": "cyan",
    "decision": "cyan",
    "revocation": "bold red",
    "lock": "bold red",
    "unlock": "yellow",
}
OUTCOMES = {"committed": "green", "rolled back": "yellow", "in doubt": "bold red"}
MASKED = " (a secret in it is masked)"
SHOWN_BYTES = 1_000
"""Results of fewer bytes say nothing of their size."""


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the timeline. What an entry of its kind does not have stays None."""

    kind: str
    seq: int | None = None
    offset_s: float = 0.0
    gap_s: float | None = None
    text: str | None = None
    statement: int | None = None
    sql: str | None = None
    masked: bool = False
    parameters: list[dict[str, Any]] | None = None
    tags: list[str] | None = None
    rows: int | None = None
    bytes_out: int | None = None
    mode: str | None = None
    result_bytes: int | None = None
    finished: bool = True
    duration_s: float | None = None
    sqlstate: str | None = None
    message: str | None = None
    skipped: bool = False
    suspended: bool = False
    reason: str | None = None
    by: str | None = None
    why: str | None = None
    outcome: str | None = None
    transaction: int | None = None
    running: int | None = None
    stop_s: float | None = None
    slots: list[str] | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """Something to show at a moment: `mark` says which statement, each part is (gutter, text, style)."""

    at_s: float
    mark: str
    parts: tuple[tuple[str, str, str], ...]


def steps(items: Iterable[Item], *, live: bool = False, ended_only: bool = False) -> Iterator[Step]:
    """The play in order. A result has its own moment, so what came between stands between.

    A `live` timeline's steps come at once, and a statement comes twice: when it begins, and again when it has ended;
    where of these `ended_only` are among the items, both are shown then.
    """
    later: list[tuple[float, int, Step]] = []
    order = itertools.count()
    latest = float("-inf")  # when the last result is
    for item in items:
        for step in _steps_of(
            item, asked=ended_only or not live or not item.finished, answered=not live or item.finished
        ):
            at_s = max(step.at_s, latest) if item.kind == "transaction" else step.at_s
            heapq.heappush(later, (at_s, next(order), step))
            if item.kind == "statement":
                latest = max(latest, at_s)
        while later and (later[0][0] <= item.offset_s or live):
            yield heapq.heappop(later)[-1]
    while later:
        yield heapq.heappop(later)[-1]


def _steps_of(item: Item, *, asked: bool, answered: bool) -> Iterator[Step]:
    if item.gap_s:
        text = f"PAUSE {show_duration(item.gap_s)}"
        yield Step(at_s=item.offset_s - item.gap_s, mark="", parts=(("", text, "dim"),))
    if item.kind != "statement":
        yield Step(at_s=item.offset_s, mark="", parts=(("", _told(item), _style(item)),))
        return
    mark = f"#{item.statement or '?'}"
    if asked:
        yield Step(at_s=item.offset_s, mark=mark, parts=tuple(_asked(item)))
    if answered:
        text, style = result(item)
        yield Step(at_s=item.offset_s + (item.duration_s or 0.0), mark=mark, parts=(("", text, style),))


def failed(item: Item) -> bool:
    """Whether the item is an error."""
    return (item.kind == "statement" and item.sqlstate is not None) or item.kind == "refused"


def result(item: Item) -> tuple[str, str]:
    """A statement's result in words, and their style. That its work was kept, or an error's was not, goes unsaid."""
    text, style = _result(item)
    unsaid = "rolled back" if item.sqlstate else "committed"
    if item.outcome is None or item.outcome == unsaid:
        return text, style
    return f"{text}, {item.outcome}", OUTCOMES.get(item.outcome, "bold red")


def _result(item: Item) -> tuple[str, str]:
    if item.sqlstate:
        took = f" ({show_duration(item.duration_s)})" if item.duration_s is not None else ""
        return f"ERROR {item.sqlstate} {item.message or ''}".rstrip() + took, "bold red"
    if item.skipped:
        return "SKIPPED (an earlier statement of the pipeline failed)", "yellow"
    if item.duration_s is None:
        return "NO RESULT (the session ended first)", "yellow"
    rows = item.rows or 0
    if item.mode == "function":
        given = "NULL" if item.result_bytes is None else f"a result of {show_size(item.result_bytes)}"
        return f"SUCCESS ({given}, {show_duration(item.duration_s)})", "green"
    counted = f"{rows} row{'' if rows == 1 else 's'}{' so far' if item.suspended else ''}"
    size = f", {show_size(item.bytes_out)}" if (item.bytes_out or 0) >= SHOWN_BYTES else ""
    return f"SUCCESS ({counted}{size}, {show_duration(item.duration_s)})", "green"


def parameter(value: dict[str, Any]) -> str:
    """A bound value as SQL would write it; what is bare (NULL, withheld) is no text, so none can be taken for it."""
    if value.get("withheld"):
        return f"withheld (type {value.get('type', 0)})"
    if value.get("base64") is not None:
        return f"base64 '{value['base64']}' (type {value.get('type', 0)})"
    content = value.get("value")
    if content is None:
        return "NULL"
    if isinstance(content, bool):
        return "true" if content else "false"
    if isinstance(content, int | float):
        return str(content)
    return "'" + str(content).replace("'", "''") + "'" + (MASKED if value.get("masked") else "")


def _asked(item: Item) -> Iterator[tuple[str, str, str]]:
    yield "> ", (item.text if item.mode == "function" else item.sql) or "", "bold"
    if item.masked:
        yield "", MASKED.strip(), "yellow"
    for number, value in enumerate(item.parameters or [], start=1):
        yield f"${number} = ", parameter(value), "magenta"


def _style(item: Item) -> str:
    return OUTCOMES.get(item.outcome or "", "") if item.kind == "transaction" else OUTLINE.get(item.kind, "")


def _told(item: Item) -> str:
    if item.kind == "transaction" and item.outcome:
        told = (item.text or "").replace(f" {item.outcome}", "", 1)
        return f"{item.outcome.upper()} {told}".rstrip()
    if item.kind != "end" or item.reason is None:
        return f"{item.kind.upper()} {item.text or ''}".rstrip()
    because = f": '{item.why}'" if item.why else ""
    parts = [f"END {item.reason}" + (f" by {item.by}" if item.by else "") + because]
    if item.running is not None:
        parts.append(f"#{item.running} was running")
    parts.append(f"open work: {item.outcome or 'unknown'}")
    if item.stop_s is not None:
        parts.append(f"backend gone {show_duration(item.stop_s)} after the decision")
    if item.slots:
        parts.append(f"replication slots left behind: {', '.join(item.slots)}")
    return "; ".join(parts)


def moments(
    play: Iterable[Step], *, speed: float, max_gap_s: float | None, from_first: bool = False
) -> Iterator[tuple[float, Step]]:
    """Each step with how long after the beginning of the session it is shown, or after the first step."""
    position = at_s = 0.0
    for number, step in enumerate(play):
        if from_first and number == 0:
            at_s = step.at_s
        gap = max(0.0, step.at_s - at_s)
        at_s = max(at_s, step.at_s)
        position += min(gap, max_gap_s) / speed if max_gap_s is not None else gap / speed
        yield position, step


def play(
    timed: Iterable[tuple[float, Step]],
    out: Console,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Show each step at its moment. Time lost in showing is made up for, so a long play does not drift."""
    began = clock()
    for moment, step in timed:
        if (wait := began + moment - clock()) > 0:
            sleep(wait)
        show(step, out)


def show(step: Step, out: Console) -> None:
    """Print one step: position and statement first, the parts behind their gutters."""
    head = f"{show_offset(step.at_s):>11}  {step.mark:<5}"
    width = max(MIN_WIDTH, out.width - MARGIN - 2)
    for gutter, text, style in step.parts:
        follow = "> " if gutter == "> " else " " * len(gutter)
        first = gutter
        for line in harmless.lines(text):
            for folded, piece in enumerate(_fold(line, width - len(gutter))):
                lead = f"{head}  " + ("+ " if folded and gutter == "> " else first)
                out.print(Text.assemble((lead, "dim"), (piece, style)), soft_wrap=True)
                head, first = " " * len(head), follow


def _fold(line: str, width: int) -> list[str]:
    """`line` in pieces that fit, so that the terminal never starts a row by itself."""
    if len(line) * 2 <= width:
        return [line]
    if line.isascii():
        return [line[start : start + width] for start in range(0, len(line), width)] or [""]
    return chop_cells(line, width)
