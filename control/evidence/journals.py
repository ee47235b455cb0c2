"""Whether every session that a proxy has begun has arrived, by its journal's own chain. Pure.

The rules are `proxy.contract.succession`'s; here they meet what arrives, which is in the journal's order.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from control.evidence.chain import Flaw, Kind, Line
from proxy.contract.record import Entry
from proxy.contract.succession import beginning, behind, check_place, holds, place, promise


@dataclass(frozen=True, slots=True)
class Followed:
    """Where each journal goes on, and what was missing on the way there."""

    next: Mapping[str, Entry]
    flaws: tuple[Flaw, ...]


def journals_of(lines: Iterable[Line]) -> frozenset[str]:
    """The journals that these records speak of."""
    named = (place(line.record) or promise(line.record) for line in lines)
    return frozenset(entry.journal for entry in named if entry is not None)


def follow(known: Mapping[str, Entry], lines: Iterable[Line]) -> Followed:
    """Take in records that are new, of one proxy. `known` says where its journals went on until now."""
    following, flaws = dict(known), list[Flaw]()
    lines = list(lines)
    firsts = [(entry, line) for line in lines if (entry := place(line.record)) is not None]
    for entry, line in sorted(firsts, key=lambda first: (first[0].journal, first[0].number)):
        due = following.get(entry.journal) or beginning(entry.journal)
        if (wrong := check_place(entry, due)) is not None:
            flaws.append(_flaw(line, str(wrong)))
        if entry.number >= due.number:
            following[entry.journal] = behind(entry, line.digest)
    for line in lines:
        if (promised := promise(line.record)) is not None:
            reached = following.get(promised.journal) or beginning(promised.journal)
            if not holds(promised, reached):
                flaws.append(_flaw(line, f"its journal had {promised.number} sessions by then; {reached.number} came"))
    return Followed(following, tuple(flaws))


def _flaw(line: Line, detail: str) -> Flaw:
    return Flaw(Kind.MISSING, detail, line.record.session, str(line.record.seq), line.raw)
