"""Answers as comparable lines. Pure.

A line is the whole message. Two things are taken out because they cannot be alike: a backend's pid, and the secret of
its cancel key (not its length). Of an error that Curfew says in its own words only severity and SQLSTATE are compared;
such a one has no `R` field (the routine in PostgreSQL's source), which every error of PostgreSQL's has.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from tests.harness.wire import Message

_SHOWN = 300
"""A longer text is shown by its start, its length and its hash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One answer."""

    text: str
    """All of it."""
    gist: str
    """What is compared where either side speaks in its own words."""
    own: bool = False
    """An error or notice that PostgreSQL did not write."""

    def matches(self, other: "Line") -> bool:
        """Whether it is the same answer."""
        return self.text == other.text or (self.own != other.own and self.gist == other.gist)


def remark(text: str) -> Line:
    """What happened, where that is no message: a byte, the end, silence."""
    return Line(text=f"({text})", gist=f"({text})")


def line_of(message: Message, pids: Sequence[int] = ()) -> Line:
    """The line for a message, on a connection where these pids were heard of."""
    if message.kind in "EN":
        return _report(message)
    text = f"{message.kind} {_shown(message, pids)}".rstrip()
    return Line(text=text, gist=text)


def _report(message: Message) -> Line:
    fields = [field.decode(errors="backslashreplace") for field in message.body.split(b"\0") if field]
    known = {field[0]: field[1:] for field in fields}
    gist = f"{message.kind} {known.get('V')} {known.get('C')}"
    return Line(text=f"{gist} {_cut(repr(fields))}", gist=gist, own="R" not in known)


def _shown(message: Message, pids: Sequence[int]) -> str:
    body = message.body
    match message.kind:
        case "K":
            return f"a pid, a secret of {len(body) - 4} bytes"
        case "A":
            return f"from {_pid(int.from_bytes(body[:4]), pids)}: {_cut(repr(body[4:]))}"
        case "D":
            values = message.values
            return "a known pid" if values in [[str(pid).encode()] for pid in pids] else _cut(repr(values))
        case "Z":
            return body.decode(errors="backslashreplace")
        case _:
            return _cut(repr(body)) if body else ""


def _pid(pid: int, pids: Sequence[int]) -> str:
    return f"pid {pids.index(pid) + 1}" if pid in pids else "an unknown pid"


def _cut(text: str) -> str:
    if len(text) <= _SHOWN:
        return text
    return f"{text[:80]}... {len(text)} characters, SHA-256 {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def differences(direct: Sequence[Line], curfew: Sequence[Line]) -> tuple[str, ...]:
    """What differs, in order: `- ` is said by PostgreSQL alone, `+ ` by Curfew alone."""
    found: list[str] = []
    matcher = SequenceMatcher(None, [one.gist for one in direct], [one.gist for one in curfew], autojunk=False)
    for kind, start, end, other_start, other_end in matcher.get_opcodes():
        ours, theirs = direct[start:end], curfew[other_start:other_end]
        if kind != "equal":
            found += [f"- {one.gist}" for one in ours] + [f"+ {one.gist}" for one in theirs]
            continue
        for one, other in zip(ours, theirs, strict=True):
            if not one.matches(other):
                found += [f"- {one.text}", f"+ {other.text}"]
    return tuple(found)
