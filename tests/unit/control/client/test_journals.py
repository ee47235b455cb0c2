"""The journals of a bundle's sessions: what is missing between them is named, and what is whole is no fault."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from control.client.checking import examine
from control.client.journals import Journals
from proxy.contract.record import AuthRefused, Chain, Entry
from proxy.recorder import Recorder
from tests.unit.proxy.journals import end_record, open_journal, start_record, stored

SESSIONS = 6
REFUSED = 3


def journal_lines(
    folder: Path, key: Ed25519PrivateKey, *, begins_at: Entry | None = None, proxy: str = "p1"
) -> list[list[bytes]]:
    """What a real journal has: each session's lines. One is a refused login; the others end when all have begun."""
    journal = open_journal(folder)
    if begins_at is not None:
        journal.next_entry = begins_at
    recorders = [Recorder(journal, key, Chain(f"s{number}")) for number in range(SESSIONS)]
    for number, recorder in enumerate(recorders):
        if number == REFUSED:
            recorder.refuse(AuthRefused(refusal="expired", user="a", database="b"))
        else:
            recorder.start(msgspec.structs.replace(start_record(), proxy=proxy))
    for number, recorder in enumerate(recorders):
        if number != REFUSED:
            recorder.end(end_record())
    journal.close()
    lines = stored(folder)
    return [[line for line in lines if f'"session":"s{number}"'.encode() in line] for number in range(SESSIONS)]


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> list[list[bytes]]:
    """Those of one journal."""
    return journal_lines(tmp_path_factory.mktemp("journal"), Ed25519PrivateKey.generate())


def faults(sessions: Sequence[list[bytes]], *, full: bool = True) -> list[str]:
    """What is wrong with them."""
    journals = Journals()
    for lines in reversed(sessions):  # in whatever order
        journals.add("p1", examine(lines, []))
    (found,) = journals.check(full=full)
    assert found.whole == (full and not found.faults)
    return found.faults


def test_all_of_it(sessions: list[list[bytes]]) -> None:
    """No fault; nor of one that runs on."""
    assert faults(sessions) == []
    assert faults([*sessions[:-1], sessions[-1][:1]]) == []


@pytest.mark.parametrize(
    ("gone", "fault"),
    [
        ((0,), "1 session missing as a whole: number 0, before the session s1 (number 1)"),
        ((2,), "1 session missing as a whole: number 2, {behind_s1}, before the session s3 (number 3)"),
        ((2, 3), "2 sessions missing as a whole: numbers 2 to 3, {behind_s1}, before the session s4 (number 4)"),
        ((5,), "1 session missing as a whole: number 5, behind the session s4 (number 4), before session s0 ended"),
    ],
)
def test_missing_sessions(sessions: list[list[bytes]], gone: tuple[int, ...], fault: str) -> None:
    """Each is named by its neighbours, the last by an end that was signed behind it; in a part nothing is missing."""
    left = [lines for number, lines in enumerate(sessions) if number not in gone]
    assert faults(left) == [fault.format(behind_s1="behind the session s1 (number 1)")]
    assert faults(left, full=False) == []


def test_the_last_that_nobody_has_signed_for(sessions: list[list[bytes]]) -> None:
    """Where no later end is there, nobody can know."""
    assert faults([lines[:1] for lines in sessions[:-1]]) == []


def test_another_session_in_its_place(sessions: list[list[bytes]], tmp_path: Path) -> None:
    """Of the same number, signed by whoever has the key: its neighbours say that it was another one. In parts too."""
    other = journal_lines(tmp_path, Ed25519PrivateKey.generate(), begins_at=_entry(sessions[0]))
    forged = [*sessions[:2], [line.replace(b'"s2"', b'"x2"') for line in other[2][:1]], *sessions[3:]]
    for some in (forged, forged[1:4]):
        found = faults(some, full=some is forged)
        assert "session x2 began behind another session than the session s1 (number 1) that is here" in found
        assert "session s3 began behind another session than the session x2 (number 2) that is here" in found


def test_an_end_behind_another_session(sessions: list[list[bytes]], tmp_path: Path) -> None:
    """The last one was replaced: the ends of the others were signed behind another."""
    other = journal_lines(tmp_path, Ed25519PrivateKey.generate(), begins_at=_entry(sessions[0]))
    forged = [line.replace(b'"s5"', b'"x5"') for line in other[5][:1]]
    found = faults([sessions[0], forged], full=False)
    assert found == ["session s0 ended behind another session than the session x5 (number 5) that is here"]


def test_a_number_twice(sessions: list[list[bytes]], tmp_path: Path) -> None:
    """A journal that was rolled back and went on."""
    other = journal_lines(tmp_path, Ed25519PrivateKey.generate(), begins_at=_entry(sessions[0]))
    again = [line.replace(b'"s1"', b'"x1"') for line in other[1][:1]]
    assert "sessions x1 and s1 are both its number 1" in faults([*sessions, again])


def test_records_without_a_place() -> None:
    """Those of an older proxy: nothing is said of their journal."""
    journals = Journals()
    journals.add("p1", examine([Chain("old").seal(start_record())], []))
    assert journals.check(full=True) == []


def _entry(lines: list[bytes]) -> Entry:
    entry = examine(lines, []).place
    assert entry is not None
    return entry
