"""A journal's own chain: a session that is missing as a whole is found, and what is whole is no fault."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from control.evidence.chain import Kind, Line, parse
from control.evidence.journals import Followed, follow, journals_of
from proxy.contract.record import AuthRefused, Chain, Entry
from proxy.recorder import Recorder
from tests.unit.control.desk import Desk
from tests.unit.proxy.journals import end_record, open_journal, start_record, stored

SESSIONS = 6


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> list[list[bytes]]:
    """What a real journal has: each session's lines. The fourth is a refused login, and all end at last."""
    folder = tmp_path_factory.mktemp("journal")
    journal, key = open_journal(folder), Ed25519PrivateKey.generate()
    recorders = [Recorder(journal, key, Chain(f"s{number}")) for number in range(SESSIONS)]
    for number, recorder in enumerate(recorders):
        if number == 3:
            recorder.refuse(AuthRefused(refusal="expired", user="a", database="b"))
        else:
            recorder.start(start_record())
    for number, recorder in enumerate(recorders):
        if number != 3:
            recorder.end(end_record())
    journal.close()
    lines = stored(folder)
    return [[line for line in lines if f'"session":"s{number}"'.encode() in line] for number in range(SESSIONS)]


def read(*lines: bytes) -> list[Line]:
    """The lines, which are records."""
    parsed, malformed = parse(b"\n".join(lines))
    assert malformed is None
    return list(parsed)


def details(followed: Followed) -> list[str]:
    """What was found missing, where."""
    assert all(flaw.kind is Kind.MISSING for flaw in followed.flaws)
    return [f"{flaw.session} {flaw.seq}: {flaw.detail}" for flaw in followed.flaws]


@given(st.data())
def test_all_of_it_in_any_batches(sessions: list[list[bytes]], data: st.DataObject) -> None:
    """No fault, wherever the batches are cut, and whatever the order of sessions within one."""
    lines = [lines[0] for lines in sessions] + [lines[1] for lines in sessions if len(lines) > 1]
    known: Mapping[str, Entry] = {}
    while lines:
        size = data.draw(st.integers(1, len(lines)))
        batch, lines = lines[:size], lines[size:]
        followed = follow(known, read(*data.draw(st.permutations(batch))))
        assert followed.flaws == ()
        known = followed.next
    assert [entry.number for entry in known.values()] == [SESSIONS]


@pytest.mark.parametrize("gone", range(SESSIONS))
def test_a_session_that_is_missing(sessions: list[list[bytes]], gone: int) -> None:
    """Its successor says so, once; where it has none, the ends of others do."""
    firsts = [lines[0] for number, lines in enumerate(sessions) if number != gone]
    followed = follow({}, read(*firsts))
    last = gone == SESSIONS - 1
    assert details(followed) == (
        [] if last else [f"s{gone + 1} 0: 1 sessions before it in its journal have not arrived"]
    )
    ends = [lines[1] for number, lines in enumerate(sessions) if number not in (gone, 3)]
    promised = details(follow(followed.next, read(*ends)))
    assert promised == ([f"s{n} 1: its journal had 6 sessions by then; 5 came" for n in (0, 1, 2, 4)] if last else [])


def test_a_journal_that_was_rolled_back(sessions: list[list[bytes]], tmp_path: Path) -> None:
    """Another session under a number that was used: the older one counts on."""
    known = follow({}, read(*(lines[0] for lines in sessions))).next
    journal = open_journal(tmp_path)
    ((name, expected),) = known.items()
    journal.next_entry = Entry(journal=name, number=2, prev="0" * 64)
    Recorder(journal, Ed25519PrivateKey.generate(), Chain("again")).start(start_record())
    followed = follow(known, read(*stored(tmp_path)))
    assert details(followed) == ["again 0: another session was number 2 of its journal"]
    assert followed.next == {name: expected}
    journal.close()


def test_another_session_in_its_place(sessions: list[list[bytes]]) -> None:
    """The number fits, and what is before it does not."""
    known = follow({}, read(sessions[0][0])).next
    ((name, entry),) = known.items()
    forged = {name: Entry(journal=name, number=entry.number, prev="0" * 64)}
    (detail,) = details(follow(forged, read(sessions[1][0])))
    assert detail == "s1 0: the session before it in its journal is another one than arrived"


def test_records_without_a_place() -> None:
    """Those of an older proxy: nothing is known of their journal, and nothing is said."""
    chain = Chain("old")
    (line,) = read(chain.seal(start_record()))
    assert journals_of([line]) == frozenset()
    assert follow({}, [line]) == Followed({}, ())


async def test_ingest(desk: Desk, sessions: list[list[bytes]]) -> None:
    """What arrives behind a gap is stored, and the gap is a fault that auditors see; sent again, it is none anew."""
    edge = await desk.edge("p1")
    first, _, third = (lines[0] for lines in sessions[:3])
    assert [(await edge.ship(line)).status_code for line in (first, third, third)] == [200, 409, 200]
    faults = (await desk.ok("eve", "GET", "/v1/faults"))["items"]
    assert [(fault["kind"], fault["session"]) for fault in faults] == [("missing", "s2")]
    assert (await desk.ok("eve", "GET", "/v1/sessions/s2"))["faults"] == 1
