"""Judging what a proxy sends: every way in which a session can be wrong."""

import json
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from control.domain.sessions import Session, State
from control.evidence.chain import Kind, Ledger, Line, by_session, parse
from proxy.contract.merkle import leaf_hash
from proxy.contract.record import AuthRefused, Chain, JournalTorn, SessionStart, line_hash
from proxy.contract.verification import verify_chain
from tests.unit.control.desk import end, statement

KEY = Ed25519PrivateKey.generate()
OTHER = Ed25519PrivateKey.generate()
START = {
    "grant": "grt_1",
    "person": "ada",
    "expires_at": 5,
    "target": "orders",
    "database": "shop",
    "profile": "readonly",
    "upstream_user": "ro",
    "backend_pid": 1,
    "backend_start": "",
}


def start(proxy: str = "edge") -> SessionStart:
    """A session's first record."""
    return SessionStart(**START, proxy=proxy)  # type: ignore[arg-type] # the values' types differ


def session(name: str = "s1", *, key: Ed25519PrivateKey = KEY, proxy: str = "edge", statements: int = 2) -> list[bytes]:
    """A whole session's lines."""
    chain = Chain(name)
    lines = [chain.seal(start(proxy))]
    lines += [chain.seal(record) for number in range(1, statements + 1) for record in statement(number)]
    return [*lines, chain.seal_signed(end(statements), key)]


def ledger(known: Session | None = None, stored: list[bytes] | None = None) -> Ledger:
    """The proxy's ledger for one session."""
    return Ledger(
        proxy="edge", keys=[OTHER.public_key(), KEY.public_key()], session=known, stored=dict(enumerate(stored or []))
    )


def read(*lines: bytes) -> list[Line]:
    """The lines, which are records."""
    parsed, malformed = parse(b"\n".join(lines))
    assert malformed is None
    return list(parsed)


def judge(*lines: bytes, judge_: Ledger | None = None) -> Ledger:
    """What a ledger makes of the lines."""
    judge_ = judge_ or ledger()
    for line in read(*lines):
        judge_.take(line)
    return judge_


def test_a_whole_session_is_taken_as_it_came() -> None:
    """Byte for byte, and its summary is what its end says."""
    lines = session()
    taken = judge(*lines)
    assert taken.flaw is None
    assert [(line.record.seq, line.raw) for line in taken.new] == list(enumerate(lines))
    summary = taken.session
    assert summary is not None
    assert (summary.state, summary.records, summary.statements) == (State.ENDED, 6, 2)
    assert (summary.bytes_in, summary.bytes_out, summary.stop_ns) == (100, 200, 250_000_000)
    assert verify_chain([line.raw for line in taken.new], KEY.public_key()) == 6


def test_a_break_in_the_journal() -> None:
    """It stands alone, signed, and is no session that anybody had."""
    line = Chain("ses_9").seal_signed(JournalTorn(segment=1, offset=9, bytes=5), KEY)
    taken = judge(line)
    assert taken.flaw is None
    assert taken.session is not None
    assert (taken.session.state, taken.session.person, taken.session.complete) == (State.TORN, None, True)


def test_a_session_may_come_in_pieces() -> None:
    """Each goes on where the stored one ends."""
    lines = session()
    first = judge(*lines[:2])
    second = judge(*lines[2:], judge_=ledger(first.session, lines[:2]))
    assert second.flaw is None
    assert [line.record.seq for line in second.new] == [2, 3, 4, 5]


def test_the_same_again_is_known() -> None:
    """At least once is how it is sent."""
    lines = session()
    again = judge(*lines, *lines, judge_=ledger(judge(*lines[:3]).session, lines[:3]))
    assert again.flaw is None
    assert (again.known, len(again.new)) == (3 + 6, 3)


def _reworded(line: bytes) -> bytes:
    return line.replace(b"SELECT 1", b"SELECT 2")


FORGERIES: list[tuple[str, Callable[[list[bytes]], list[bytes]], Kind, int]] = [
    ("edited", lambda s: [s[0], _reworded(s[1]), *s[2:]], Kind.CHAIN, 2),
    ("deleted", lambda s: [s[0], *s[2:]], Kind.GAP, 2),
    ("swapped", lambda s: [s[0], s[2], s[1], *s[3:]], Kind.GAP, 2),
    ("no beginning", lambda s: s[1:], Kind.GAP, 1),
    ("rewritten", lambda s: [*s[:3], _reworded(s[1])], Kind.REWRITTEN, 1),
    ("goes on behind its end", lambda s: [*s, s[1].replace(b'"seq":1', b'"seq":6')], Kind.AFTER_END, 6),
]


@pytest.mark.parametrize(
    ("forge", "kind", "seq"), [case[1:] for case in FORGERIES], ids=[case[0] for case in FORGERIES]
)
def test_a_forged_session_is_found(forge: Callable[[list[bytes]], list[bytes]], kind: Kind, seq: int) -> None:
    """At the first line that does not follow; what came before is kept, and nothing behind it."""
    taken = judge(*forge(session()), session()[0])
    assert taken.flaw is not None
    assert (taken.flaw.kind, taken.flaw.seq) == (kind, str(seq))
    assert all(line.record.seq < seq or kind is Kind.REWRITTEN for line in taken.new)


def test_the_end_is_signed_by_the_proxy() -> None:
    """By one of its keys, and not cut, swapped or left out."""
    whole = session()
    assert judge(*session(key=OTHER)).flaw is None
    stranger = judge(*session(key=Ed25519PrivateKey.generate()))
    cut = judge(*whole[:-1], whole[-1].partition(b',"signature"')[0] + b"}")
    odd = judge(*whole[:-1], whole[-1].replace(b'"signature":"', b'"signature":"A'))
    for taken in (stranger, cut, odd):
        assert taken.flaw is not None
        assert taken.flaw.kind is Kind.SIGNATURE
        assert taken.session is not None
        assert taken.session.state is State.OPEN


def test_a_session_has_one_beginning() -> None:
    """It is the first record, and the only one."""
    chain = Chain("s1")
    statement_first = judge(chain.seal(statement(1)[0]))
    chain = Chain("s1")
    twice = judge(chain.seal(start()), chain.seal(start()))
    for taken in (statement_first, twice):
        assert taken.flaw is not None
        assert taken.flaw.kind is Kind.BEGINNING


def test_another_proxys_session_is_refused() -> None:
    """By the name in its first record."""
    taken = judge(*session(proxy="other"))
    assert taken.flaw is not None
    assert taken.flaw.kind is Kind.FOREIGN
    assert not taken.new


def refused() -> AuthRefused:
    """The only record of a connection that was not admitted."""
    return AuthRefused(refusal="expired", user="ada", database="orders")


def test_a_refused_connection_is_signed_by_the_proxy() -> None:
    """By one of its keys, whichever; and what is not is no session at all."""
    assert judge(Chain("s1").seal_signed(refused(), OTHER)).flaw is None
    signed = Chain("s1").seal_signed(refused(), KEY)
    forged = (
        Chain("s1").seal(refused()),
        Chain("s1").seal_signed(refused(), Ed25519PrivateKey.generate()),
        signed.replace(b"ada", b"eve"),
    )
    for line in forged:
        taken = judge(line)
        assert taken.flaw is not None
        assert taken.flaw.kind is Kind.SIGNATURE
        assert (taken.session, taken.new) == (None, [])


def test_a_refused_connection_is_one_record() -> None:
    """And nothing comes behind it."""
    chain = Chain("s1")
    lines = [chain.seal_signed(refused(), KEY), chain.seal(start())]
    taken = judge(*lines)
    assert taken.session is not None
    assert (taken.session.state, taken.session.person, len(taken.new)) == (State.REFUSED, None, 1)
    assert taken.flaw is not None
    assert taken.flaw.kind is Kind.AFTER_END


@pytest.mark.parametrize(
    "raw",
    [
        b"garbage",
        b"{}",
        b'"text"',
        b"\xff",
        b'{"type":"session.start"}',
        session()[0].replace(b'"v":1', b'"v":2'),
        session()[0].replace(b'"session":"s1"', b'"session":""'),
        session()[0].replace(b'"session":"s1"', b'"session":"' + b"s" * 65 + b'"'),
        session()[0].replace(b'"session":"s1"', b'"session":"a\\nb"'),
        session()[0].replace(b'"seq":0', b'"seq":-1'),
        session()[0].replace(b'"seq":0', b'"seq":9223372036854775808'),
        session()[1].replace(b'"statement":1', b'"statement":99999999999999999999999'),
        session()[0].replace(b'"expires_at":5', b'"expires_at":-5'),
        session()[0].replace(b'"person":"ada"', b'"person":"\\ud800"'),
        session()[0].replace(b'"proxy"', b'"entry":{"journal":"","number":0,"prev":""},"proxy"'),
        session()[0].replace(b'"proxy"', b'"entry":{"journal":"j","number":-1,"prev":""},"proxy"'),
        session()[-1].replace(b'"reason"', b'"next_entry":{"journal":"j","number":9223372036854775808},"reason"'),
        session()[1].replace(b'"statement":1', b'"function":-1,"statement":1'),
        session()[1].replace(b"}", b"}{}"),
    ],
)
def test_what_is_no_record(raw: bytes) -> None:
    """Bad JSON, another version, ids, places and numbers that nobody would write, wherever they stand among others."""
    usual = session("s2")
    for before in range(len(usual) + 1):
        lines, malformed = parse(b"\n".join([*usual[:before], raw, *usual[before:]]))
        assert malformed is not None
        assert (malformed.kind, malformed.raw) == (Kind.MALFORMED, raw)
        assert lines == read(*usual[:before])


def test_what_is_read_of_a_line() -> None:
    """The same, whether it is seen together with others or by itself."""
    lines = session()
    assert read(*lines) == [one for line in lines for one in read(line)]
    assert [(one.raw, one.digest, one.leaf) for one in read(*lines)] == [
        (line, line_hash(line), leaf_hash(line)) for line in lines
    ]


def test_empty_lines_are_nothing() -> None:
    """A body ends with a newline, and an empty body is no fault."""
    assert parse(b"") == ([], None)
    assert len(read(b"", *session(), b"")) == 6


def test_sessions_are_told_apart() -> None:
    """A batch mixes them."""
    one, two = session("s1"), session("s2")
    mixed = [line for pair in zip(one, two, strict=True) for line in pair]
    batch = by_session(read(*mixed))
    assert {name: [line.raw for line in lines] for name, lines in batch.items()} == {"s1": one, "s2": two}


@given(st.data())
def test_no_edit_is_missed(data: st.DataObject) -> None:
    """Whatever byte of whatever line is changed, the session is not taken whole."""
    lines = session()
    number = data.draw(st.integers(0, len(lines) - 1))
    place = data.draw(st.integers(0, len(lines[number]) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda byte: byte not in (lines[number][place], 10)))
    edited = lines[number][:place] + bytes([value]) + lines[number][place + 1 :]
    parsed, malformed = parse(b"\n".join([*lines[:number], edited, *lines[number + 1 :]]))
    ledgers = {name: ledger() for name in by_session(parsed)}
    for line in parsed:
        ledgers[line.record.session].take(line)
    whole = [one for one in ledgers.values() if one.session is not None and one.session.state is State.ENDED]
    assert malformed is not None or any(one.flaw is not None for one in ledgers.values()) or not whole


EDITS: list[Callable[[list[bytes], int], list[bytes]]] = [
    lambda lines, at: [*lines[:at], *lines[at + 1 :]],
    lambda lines, at: [*lines[:at], lines[at], *lines[at:]],
    lambda lines, at: [*lines[:at], _reworded(lines[at]), *lines[at + 1 :]],
    lambda lines, at: [*lines[:at], *lines[at + 1 :], lines[at]],
    lambda lines, at: [*lines, *lines[at:]],
    lambda lines, at: [*lines[:at], Chain("s1", next_seq=at).seal(start()), *lines[at:]],
    lambda lines, at: [*lines[:at], Chain("s1").seal_signed(refused(), KEY), *lines[at:]],
]


@given(st.data())
def test_all_at_once_and_one_by_one(data: st.DataObject) -> None:
    """However a session comes, in what batches and with what faults: it is judged as if line by line."""
    lines = session(statements=3)
    known = data.draw(st.integers(0, len(lines)))
    sent = lines[data.draw(st.integers(0, known)) :]
    for edit in data.draw(st.lists(st.sampled_from(EDITS), max_size=2)):
        if sent:
            sent = edit(sent, data.draw(st.integers(0, len(sent) - 1)))
    one, other = (ledger(judge(*lines[:known]).session, lines[:known]) for _ in range(2))
    records, begin = read(*sent), 0
    for end_ in sorted(data.draw(st.sets(st.integers(0, len(sent)), max_size=2)) | {len(sent)}):
        one.take_all(records[begin:end_])
        begin = end_
    for line in records:
        other.take(line)
    for name in ("new", "ends", "known", "flaw", "session", "reaped"):
        assert getattr(one, name) == getattr(other, name)


def test_a_number_left_out() -> None:
    """It is a gap, though the hashes join: a proxy's own chain can be made so."""
    chain = Chain("s1")
    lines = [chain.seal(start())]
    chain.next_seq = 2
    lines += [chain.seal(record) for record in statement(1)]
    taken = ledger()
    taken.take_all(read(*lines))
    assert taken.flaw is not None
    assert (taken.flaw.kind, taken.flaw.seq, len(taken.new)) == (Kind.GAP, "2", 1)


def test_sums_stay_within_what_the_database_keeps() -> None:
    """Every number is in range; their sum need not be."""
    chain = Chain("s1")
    lines = [chain.seal(start())]
    for number in (1, 2):
        first, last = statement(number)
        lines += [chain.seal(first), chain.seal(last)]
    huge = [json.loads(line) for line in lines]
    chain = Chain("s1")
    for line in huge:
        line["prev"] = chain.head
        if "bytes_in" in line:
            line["bytes_in"] = 2**63 - 1
    taken = ledger()
    head = ""
    for line in huge:
        line["prev"] = head
        (parsed,) = read(json.dumps(line).encode())
        head = parsed.digest
        taken.take(parsed)
    assert taken.flaw is None
    assert taken.session is not None
    assert taken.session.bytes_in == 2**63 - 1
