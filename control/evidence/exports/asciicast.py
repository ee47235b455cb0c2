r"""Asciicast v3: the replay as a recording of a terminal, for `asciinema play` and its kin. Pure.

After https://docs.asciinema.org/manual/asciicast/v3/: a header, then `[interval, code, data]` a line, the interval in
seconds since the event before. Each error is a marker ("m"), so that players can jump to it.

What is shown is what `curfew replay` shows: all text is made harmless first, so the only escapes in it are the colours
written here. A result has a moment of its own; those that are still to come wait, at most WAITING of them.
"""

import heapq
from typing import Final

from rich.cells import chop_cells

from control import harmless
from control.durations import show_duration, show_offset
from control.evidence.exports import words
from control.evidence.exports.context import Context
from control.evidence.exports.lines import line
from control.evidence.timeline import Item
from control.times import SECOND, rfc3339

COLUMNS, ROWS = 120, 36
IDLE_S: Final = 2.0
"""What players cut a longer pause to."""
MARGIN: Final = 22
"""Position and statement, before the text."""
WAITING: Final = 10_000
WAITING_CHARACTERS: Final = 16 << 20
STYLES: Final = {"dim": "2", "sql": "1", "value": "35", "good": "32", "bad": "1;31", "warn": "33"}
OUTCOMES: Final = {"committed": "32", "rolled back": "33", "in doubt": "1;31"}
KINDS: Final = {
    "start": "36",
    "notice": "33",
    "cancel": "33",
    "extended": "33",
    "copy": "32",
    "refused": "1;31",
    "end": "1;36",
    "request": "36",
    "decision": "36",
    "revocation": "1;31",
    "lock": "1;31",
    "unlock": "33",
}
Part = tuple[str, str, str]
"""Gutter, text, style (SGR parameters)."""


class Asciicast:
    """A session as a recording."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: list[tuple[float, int, str, str]] = []
        self._characters = 0
        self._count = 0
        self._shown = self._latest = 0.0

    def begin(self) -> bytes:
        """The header, and what the session is."""
        session = self._context.session
        header = {
            "version": 3,
            "term": {"cols": COLUMNS, "rows": ROWS, "type": "xterm-256color"},
            "timestamp": session.started_at // SECOND,
            "idle_time_limit": IDLE_S,
            "title": harmless.line(f"Curfew session {session.id}: {session.person or 'refused'} on {self._place}"),
        }
        who = f"{session.person} on {self._place} as {session.profile}" if session.person else "a refused connection"
        grant = f"grant {session.grant}" if session.grant else "no grant"
        said = [
            f"session {session.id}: {who}",
            f"{grant}, from {session.address or 'a unix socket'}, through proxy {session.proxy}",
            f"started {rfc3339(session.started_at)}",
        ]
        shown = "".join(harmless.line(one) + "\r\n" for one in said)
        return line(header) + line([0.0, "o", shown])

    def take(self, item: Item) -> bytes:
        """What is shown at an item's moment, and the results whose moment has come before it."""
        self._context.take(item)
        return self._item(item)

    def finish(self) -> bytes:
        """The results that are left."""
        rest = self._results(float("inf"))
        if self._context.session.ended_at is None:
            rest += self._event(self._shown, "o", "the session is still open: this is what there is so far\r\n")
        return rest

    @property
    def _place(self) -> str:
        return self._context.place

    def _item(self, item: Item) -> bytes:
        at = item["offset_s"]
        if item.get("gap_s"):
            self._put(at - item["gap_s"], "", [("", f"PAUSE {show_duration(item['gap_s'])}", STYLES["dim"])])
        if item["kind"] == "statement":
            self._statement(item)
        else:
            # A transaction's end is known by the records before results of its statements have their moment.
            moment = max(at, self._latest) if item["kind"] == "transaction" else at
            self._put(moment, "", [("", words.told(item), _style(item))])
        shown = self._results(at)
        while len(self._waiting) > WAITING or self._characters > WAITING_CHARACTERS:
            shown += self._result()
        return shown

    def _statement(self, item: Item) -> None:
        at, mark = item["offset_s"], f"#{item['statement']}"
        self._put(at, mark, _asked(item))
        ends = at + (item["duration_s"] or 0.0)
        marker = harmless.line(f"{mark} ERROR {item['sqlstate']}") if words.failed(item) else ""
        self._put(ends, mark, [("", words.result(item), _style(item))], marker)
        self._latest = max(self._latest, ends)

    def _put(self, at: float, mark: str, parts: list[Part], marker: str = "") -> None:
        """Have it shown at its moment."""
        self._count += 1
        text = _screen(at, mark, parts)
        self._characters += len(text)
        heapq.heappush(self._waiting, (at, self._count, text, marker))

    def _results(self, until: float) -> bytes:
        shown = b""
        while self._waiting and self._waiting[0][0] <= until:
            shown += self._result()
        return shown

    def _result(self) -> bytes:
        at, _, text, marker = heapq.heappop(self._waiting)
        self._characters -= len(text)
        shown = self._event(at, "o", text)
        return shown + self._event(at, "m", marker) if marker else shown

    def _event(self, at: float, code: str, data: str) -> bytes:
        """An event at its moment, or at the one before it where the clock went back."""
        interval = max(0.0, round(at - self._shown, 6))
        self._shown += interval
        return line([interval, code, data])


def _asked(item: Item) -> list[Part]:
    parts = [("> ", item["text"] if item["mode"] == "function" else item["sql"], STYLES["sql"])]
    if item["masked"]:
        parts.append(("", "(a secret in it is masked)", STYLES["warn"]))
    for number, value in enumerate(item["parameters"] or [], start=1):
        parts.append((f"${number} = ", words.parameter(value), STYLES["value"]))
    return parts


def _style(item: Item) -> str:
    if item["kind"] == "transaction":
        return OUTCOMES.get(item["outcome"] or "", "")
    if item["kind"] != "statement":
        return KINDS.get(item["kind"], "")
    if words.failed(item):
        return STYLES["bad"]
    if item["skipped"] or item["duration_s"] is None:
        return STYLES["warn"]
    return OUTCOMES["committed" if item["outcome"] is None else item["outcome"]]


def _screen(at: float, mark: str, parts: list[Part]) -> str:
    """The parts as rows: position and statement first, each part behind its gutter, a folded row behind `+ `."""
    head = f"{show_offset(at):>11}  {mark:<5}"
    rows = []
    for gutter, text, style in parts:
        follow = gutter if gutter == "> " else " " * len(gutter)
        first = gutter
        for whole in harmless.lines(text):
            for folded, piece in enumerate(_fold(whole, COLUMNS - MARGIN - len(gutter))):
                lead = f"{head}  " + ("+ " if folded and gutter == "> " else first)
                rows.append(f"{_paint(lead, STYLES['dim'])}{_paint(piece, style)}\r\n")
                head, first = " " * len(head), follow
    return "".join(rows)


def _paint(text: str, style: str) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if style and text else text


def _fold(whole: str, width: int) -> list[str]:
    if len(whole) * 2 <= width:
        return [whole]
    if whole.isascii():
        return [whole[start : start + width] for start in range(0, len(whole), width)] or [""]
    return chop_cells(whole, width)
