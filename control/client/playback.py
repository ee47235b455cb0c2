"""A session's timeline as a play: what is shown, when, and in which words. Pure but for `play`, which waits and prints.

Each step knows its moment and its parts; parts of a record stand behind a gutter (`> ` for SQL, `+ ` where a line is
folded), so that no text of a session can look like a line of the replay itself.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
from rich.cells import chop_cells
from rich.console import Console
from rich.text import Text

from control import harmless
from control.client.answers import Session
from control.durations import show_duration, show_offset

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
}


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the timeline. What an entry of its kind does not have stays None."""

    kind: str
    offset_s: float = 0.0
    text: str | None = None
    statement: int | None = None
    sql: str | None = None
    masked: bool = False
    parameters: list[dict[str, Any]] | None = None
    tags: list[str] | None = None
    rows: int | None = None
    duration_s: float | None = None
    sqlstate: str | None = None
    message: str | None = None
    skipped: bool = False
    suspended: bool = False
    reason: str | None = None
    by: str | None = None
    outcome: str | None = None
    running: int | None = None
    stop_s: float | None = None
    slots: list[str] | None = None


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """A session and what happened in it."""

    session: Session
    items: list[Item]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """Something to show at a moment: `mark` says which statement, each part is (gutter, text, style)."""

    at_s: float
    mark: str
    parts: tuple[tuple[str, str, str], ...]


def steps(timeline: Timeline) -> list[Step]:
    """The whole play in order. A result has its own moment, so what came between stands between."""
    shown: list[Step] = []
    number = 0
    for item in timeline.items:
        if item.kind != "statement":
            shown.append(Step(at_s=item.offset_s, mark="", parts=(("", _told(item), OUTLINE.get(item.kind, "")),)))
            continue
        number += 1
        mark = f"#{item.statement or number}"
        shown.append(Step(at_s=item.offset_s, mark=mark, parts=tuple(_asked(item))))
        text, style = result(item)
        shown.append(Step(at_s=item.offset_s + (item.duration_s or 0.0), mark=mark, parts=(("", text, style),)))
    return sorted(shown, key=lambda step: step.at_s)


def result(item: Item) -> tuple[str, str]:
    """A statement's result in words, and their style."""
    if item.sqlstate:
        took = f" ({show_duration(item.duration_s)})" if item.duration_s is not None else ""
        return f"ERROR {item.sqlstate} {item.message or ''}".rstrip() + took, "bold red"
    if item.skipped:
        return "SKIPPED (an earlier statement of the pipeline failed)", "yellow"
    if item.duration_s is None:
        return "NO RESULT (the session ended first)", "yellow"
    rows = item.rows or 0
    counted = f"{rows} row{'' if rows == 1 else 's'}{' so far' if item.suspended else ''}"
    return f"SUCCESS ({counted}, {show_duration(item.duration_s)})", "green"


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
    return "'" + str(content).replace("'", "''") + "'"


def _asked(item: Item) -> Iterator[tuple[str, str, str]]:
    yield "> ", item.sql or "", "bold"
    if item.masked:
        yield "", "(a secret in it is masked)", "yellow"
    for number, value in enumerate(item.parameters or [], start=1):
        yield f"${number} = ", parameter(value), "magenta"


def _told(item: Item) -> str:
    if item.kind != "end" or item.reason is None:
        return f"{item.kind.upper()} {item.text or ''}".rstrip()
    parts = [f"END {item.reason}" + (f" by {item.by}" if item.by else "")]
    if item.running is not None:
        parts.append(f"#{item.running} was running")
    parts.append(f"open work: {item.outcome or 'unknown'}")
    if item.stop_s is not None:
        parts.append(f"backend gone {show_duration(item.stop_s)} after the decision")
    if item.slots:
        parts.append(f"replication slots left behind: {', '.join(item.slots)}")
    return "; ".join(parts)


def moments(play: Iterable[Step], *, speed: float, max_gap_s: float | None) -> Iterator[tuple[float, Step]]:
    """Each step with how long after the first it is shown."""
    position = at_s = 0.0
    for step in play:
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
