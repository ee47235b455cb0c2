"""Whether sessions are missing between those of a bundle, by the chains of the proxies' own journals.

The log proves that what it has is what it had. Of a session that it never had it knows nothing; the proxy's signed
records do: each session says which one began before it (`proxy.contract.succession`). In a bundle of everything all of
them must be there; in another one, those that stand side by side must fit.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from control.client.checking import Examined
from control.client.wording import count
from proxy.contract.record import Entry
from proxy.contract.succession import beginning, behind, check_place, holds


class JournalChecked(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of one journal."""

    proxy: str | None
    journal: str
    sessions: int
    """How many of its sessions were looked at."""
    whole: bool
    """Whether all of them must be there, and are."""
    faults: list[str] = []


@dataclass(frozen=True, slots=True)
class _Place:
    session: str
    entry: Entry
    digest: str

    @property
    def behind(self) -> Entry:
        return behind(self.entry, self.digest)


@dataclass(slots=True)
class _Journal:
    places: dict[int, _Place] = field(default_factory=dict)
    ends: list[tuple[str, Entry]] = field(default_factory=list)
    """Sessions, and what their ends promise."""
    twice: list[str] = field(default_factory=list)


class Journals:
    """The journals of a bundle's sessions."""

    def __init__(self) -> None:
        self._journals: dict[tuple[str | None, str], _Journal] = {}

    def add(self, proxy: str | None, examined: Examined) -> None:
        """Take in a session."""
        session = examined.checked.session
        if examined.place is not None:
            journal = self._journals.setdefault((proxy, examined.place.journal), _Journal())
            new = _Place(session, examined.place, examined.digest)
            old = journal.places.setdefault(examined.place.number, new)
            if old is not new:
                journal.twice.append(f"sessions {old.session} and {session} are both its number {new.entry.number}")
        if examined.promise is not None:
            journal = self._journals.setdefault((proxy, examined.promise.journal), _Journal())
            journal.ends.append((session, examined.promise))

    def check(self, *, full: bool) -> list[JournalChecked]:
        """What is wrong with each. `full`: every session that the log has is here."""
        found = []
        for (proxy, name), one in self._journals.items():
            faults = [*one.twice, *_gaps(name, one, full=full), *_broken_promises(name, one, full=full)]
            whole = full and not faults
            found.append(
                JournalChecked(proxy=proxy, journal=name, sessions=len(one.places), whole=whole, faults=faults)
            )
        return found


def _gaps(name: str, journal: _Journal, *, full: bool) -> Iterator[str]:
    before: _Place | None = None
    for number, one in sorted(journal.places.items()):
        due = beginning(name) if before is None else before.behind
        if full or number == due.number:
            wrong = check_place(one.entry, due)
            if wrong is not None and wrong.missing:
                yield _missing(due.number, number, before, one)
            elif wrong is not None:
                yield f"session {one.session} began behind another session than the {_named(before)} that is here"
        before = one


def _broken_promises(name: str, journal: _Journal, *, full: bool) -> Iterator[str]:
    last = max(journal.places, default=None)
    reached = beginning(name) if last is None else journal.places[last].behind
    for session, promised in journal.ends:
        before = journal.places.get(promised.number - 1)
        if before is not None and not holds(promised, before.behind):
            yield f"session {session} ended behind another session than the {_named(before)} that is here"
    latest = min(journal.ends, key=lambda end: (-end[1].number, end[0]), default=None)
    if full and latest is not None and latest[1].number > reached.number:
        known = None if last is None else journal.places[last]
        yield f"{_missing(reached.number, latest[1].number, known, None)}, before session {latest[0]} ended"


def _missing(first: int, following: int, before: _Place | None, after: _Place | None) -> str:
    """A session of which nothing is there has no name but its number, and its neighbours'."""
    numbers = f"number {first}" if following - first == 1 else f"numbers {first} to {following - 1}"
    which = [f"{word} the {_named(one)}" for word, one in (("behind", before), ("before", after)) if one is not None]
    return f"{count(following - first, 'session')} missing as a whole: {', '.join([numbers, *which])}"


def _named(place: _Place | None) -> str:
    return "session" if place is None else f"session {place.session} (number {place.entry.number})"
