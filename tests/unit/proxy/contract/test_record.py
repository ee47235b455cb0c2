"""Records and their chain: what is written reads back, and every change of what was written is found."""

import json
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from proxy.contract.record import (
    GENESIS,
    AnyRecord,
    AuthRefused,
    Cancel,
    Chain,
    Copy,
    CopyData,
    GrantExtended,
    JournalTorn,
    Notice,
    Parameter,
    RecordError,
    SessionEnd,
    SessionReaped,
    SessionStart,
    StatementEnd,
    StatementPrepare,
    StatementStart,
    Tls,
    decode,
    line_hash,
)
from proxy.contract.verification import ChainError, verify_chain, verify_signature

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key()


def start() -> SessionStart:
    """A session's first record."""
    return SessionStart(
        grant="grt_1",
        person="dba1",
        reason="Ticket 12",
        expires_at=2_000,
        target="orders",
        database="orders",
        profile="readonly",
        upstream_user="curfew_readonly",
        backend_pid=4711,
        backend_start="2026-11-22T01:02:03.000004+00:00",
        address="10.1.2.3",
        tls=Tls(version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384"),
        proxy="proxy-1",
    )


def statement(sql: str = "SELECT 1", number: int = 1) -> StatementStart:
    """A statement's first record."""
    return StatementStart(statement=number, kind="query", sql=sql, state="I", transaction=number)


def end() -> SessionEnd:
    """A session's last record."""
    return SessionEnd(
        reason="expired", decided_at=1, gone_at=2, outcome="rolled back", statements=1, bytes_in=3, bytes_out=4
    )


def reaped() -> SessionReaped:
    """What another proxy writes of a backend that it ended."""
    return SessionReaped(
        reaped="ses_1",
        left_by="proxy-1",
        target="orders",
        server="10.0.0.5:5432",
        backend_pid=7,
        backend_start="2026-01-01T00:00:00.000000+00:00",
        by="eve",
        decided_at=1,
        gone_at=2,
        found=1,
        transaction="aborted",
    )


def torn() -> JournalTorn:
    """What a start writes of the line that the crash before it has torn."""
    return JournalTorn(segment=3, offset=120, bytes=7)


def session(name: str = "ses_1", *, key: Ed25519PrivateKey = KEY, statements: int = 3) -> list[bytes]:
    """A whole session's lines."""
    chain = Chain(name)
    lines = [chain.seal(start(), at=1)]
    for number in range(1, statements + 1):
        lines.append(chain.seal(statement(number=number), at=number * 10))
        lines.append(chain.seal(StatementEnd(statement=number, tags=["SELECT 1"], rows=1, duration=5, state="I")))
    return [*lines, chain.seal_signed(end(), key, at=99)]


# --- reading


@pytest.mark.parametrize(
    "record",
    [
        start(),
        statement("SELECT 'ä\\\"\n\x01\u2028'"),
        StatementStart(
            statement=2,
            kind="execute",
            sql="SELECT \\xff",
            sql_base64="U0VMRUNUIP8=",
            masked=True,
            parameters=[Parameter(25, "x"), Parameter(25), Parameter(17, base64="AP8="), Parameter(16, value=True)],
            name="s1",
            state="T",
            transaction=1,
        ),
        StatementStart(statement=3, kind="function", sql="", function=1598, state="E", transaction=1),
        StatementPrepare(sql="SELECT $1", name="s"),
        StatementPrepare(sql="SELECT $1", portal="", parameters=[Parameter(0, "x")]),
        StatementEnd(statement=1, duration=5, sqlstate="57014", message="canceled", skipped=True, suspended=True),
        Copy(statement=1, direction="in", bytes=2**40, failed=True),
        Copy(statement=1, direction="both", bytes=9, bytes_in=0),
        CopyData(statement=1, direction="in", base64="AP8="),
        Cancel(address=None, forwarded=False),
        Notice(severity="FATAL", sqlstate="57P01", message="grant ended"),
        GrantExtended(grant="grt_1", expires_at=9),
        AuthRefused(refusal="expired", user="dba1", database="orders", grant="grt_1"),
        reaped(),
        torn(),
        end(),
    ],
    ids=lambda record: type(record).__name__,
)
def test_every_record_reads_back(record: AnyRecord) -> None:
    """One line each, and what comes back is what was sealed, with the fields that the chain adds."""
    chain = Chain("ses_1", next_seq=7, head="abc")
    line = chain.seal(record, at=123)
    assert b"\n" not in line
    got = decode(line)
    assert got == record
    assert (got.v, got.session, got.seq, got.at, got.prev) == (1, "ses_1", 7, 123, "abc")
    assert chain.head == line_hash(line)
    assert chain.next_seq == 8


def test_null_and_missing_values_differ() -> None:
    """A bound NULL is in the record as such: it is not the absence of parameters, nor an empty text."""
    sealed = Chain("s").seal(
        StatementStart(
            statement=1,
            kind="execute",
            sql="",
            parameters=[Parameter(25), Parameter(25, "")],
            state="I",
            transaction=1,
        )
    )
    assert json.loads(sealed)["parameters"] == [{"type": 25}, {"type": 25, "value": ""}]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"{}",
        b"[1]",
        b'{"type":"unknown","v":1}',
        b'{"type":"cancel","v":1}',
        b'{"type":"cancel","v":2,"session":"s","seq":0,"forwarded":true}',
        b'{"type":"cancel","session":"s","seq":0,"forwarded":true}',
        b'{"type":"cancel","v":1,"seq":"0","forwarded":true}',
        b'{"type":"cancel","v":1,"forwarded":true,"address":"\xff"}',
        b"[" * 100_000,
    ],
    ids=lambda line: repr(line)[:60],
)
def test_what_is_no_record_is_an_error(line: bytes) -> None:
    """Another shape, another version, a missing field, bytes that are no text."""
    with pytest.raises(RecordError):
        decode(line)


@given(st.binary(max_size=300))
def test_no_bytes_break_reading(line: bytes) -> None:
    """RecordError is all that a bad line can cause."""
    with pytest.raises(RecordError):
        decode(line)


# --- the chain


def test_a_whole_session_verifies() -> None:
    """With and without the key; the count is the number of records."""
    assert verify_chain(session(), PUBLIC) == 8
    assert verify_chain(session()) == 8


def refused() -> AuthRefused:
    """The only record of a connection that was not admitted."""
    return AuthRefused(refusal="expired", user="u", database="d", grant="grt_1")


@pytest.mark.parametrize("record", [refused(), reaped(), torn()], ids=lambda record: type(record).__name__)
def test_a_record_that_stands_alone_verifies(record: AuthRefused | SessionReaped | JournalTorn) -> None:
    """It is the only record of its session, and signed as a session's end is."""
    line = Chain("ses_1").seal_signed(record, KEY)
    assert verify_chain([line], PUBLIC) == 1
    assert verify_chain([line]) == 1


FORGED_REFUSALS = {
    "unsigned": Chain("ses_1").seal(refused()),
    "another key's": Chain("ses_1").seal_signed(refused(), Ed25519PrivateKey.generate()),
    "edited": Chain("ses_1").seal_signed(refused(), KEY).replace(b"grt_1", b"grt_2"),
    "a session's end's": Chain("ses_1").seal_signed(refused(), KEY)[:-90]
    + Chain("ses_1").seal_signed(end(), KEY)[-90:],
}


@pytest.mark.parametrize("line", FORGED_REFUSALS.values(), ids=FORGED_REFUSALS.keys())
def test_a_refused_login_that_the_proxy_did_not_sign_is_found(line: bytes) -> None:
    """Or anybody could put words into its mouth."""
    assert verify_chain([line]) == 1
    with pytest.raises(ChainError, match="not signed by this key"):
        verify_chain([line], PUBLIC)


def test_a_chain_goes_on_after_a_restart() -> None:
    """From the head and the number that were last written, as for a session that a crash left open."""
    lines = session(statements=1)[:-1]
    chain = Chain("ses_1", next_seq=len(lines), head=line_hash(lines[-1]))
    assert verify_chain([*lines, chain.seal_signed(end(), KEY)], PUBLIC) == len(lines) + 1


def edit(lines: list[bytes]) -> list[bytes]:
    """Another statement where the real one was."""
    return [line.replace(b"SELECT 1", b"SELECT 2") if b'"seq":3' in line else line for line in lines]


def reseal(lines: list[bytes]) -> list[bytes]:
    """The work of somebody who knows the format but not the key: an edit, and every hash behind it made new."""
    chain = Chain("ses_1")
    made = [chain.seal(decode(line)) for line in edit(lines)[:-1]]
    ending = json.loads(lines[-1])
    ending["prev"] = chain.head
    return [*made, json.dumps(ending, separators=(",", ":")).encode()]


def unsigned_end(lines: list[bytes]) -> list[bytes]:
    """As reseal, with a last record that has no signature at all."""
    forged = reseal(lines)
    ending = json.loads(forged[-1])
    del ending["signature"]
    return [*forged[:-1], json.dumps(ending, separators=(",", ":")).encode()]


TAMPERING: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "edit": edit,
    "edit the first": lambda lines: [lines[0].replace(b"dba1", b"dba2"), *lines[1:]],
    "edit the last": lambda lines: [*lines[:-1], lines[-1].replace(b"rolled back", b"nothing open")],
    "delete one": lambda lines: [*lines[:3], *lines[4:]],
    "delete the first": lambda lines: lines[1:],
    "delete a pair": lambda lines: [*lines[:1], *lines[3:]],
    "swap": lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]],
    "duplicate": lambda lines: [*lines[:3], lines[2], *lines[3:]],
    "duplicate the last": lambda lines: [*lines, lines[-1]],
    "cut the tail": lambda lines: lines[:-2],
    "cut the end": lambda lines: lines[:-1],
    "cut everything": lambda _lines: [],
    "another session's record": lambda lines: [*lines[:2], session("ses_2")[2], *lines[3:]],
    "another session's end": lambda lines: [*lines[:-1], session("ses_2")[-1]],
    "reseal": reseal,
    "reseal without a signature": unsigned_end,
    "no signature": lambda lines: [*lines[:-1], lines[-1].partition(b',"signature"')[0] + b"}"],
    "empty signature": lambda lines: [*lines[:-1], lines[-1].partition(b',"signature"')[0] + b',"signature":""}'],
    "garbage signature": lambda lines: [*lines[:-1], lines[-1][:-10] + b'!!!!!!!!"}'],
    "space behind the last": lambda lines: [*lines[:-1], lines[-1] + b" "],
    "renumbered": lambda lines: [line.replace(b'"seq":2', b'"seq":4') for line in lines],
}


@pytest.mark.parametrize("tamper", TAMPERING.values(), ids=TAMPERING.keys())
def test_tampering_is_found(tamper: Callable[[list[bytes]], list[bytes]]) -> None:
    """Each is an error, and none of them a crash."""
    lines = session()
    changed = tamper(lines)
    assert changed != lines
    with pytest.raises(ChainError):
        verify_chain(changed, PUBLIC)


def test_the_first_bad_record_is_named() -> None:
    """An auditor learns where to look."""
    with pytest.raises(ChainError) as edited:
        verify_chain(edit(session()), PUBLIC)
    with pytest.raises(ChainError) as deleted:
        verify_chain(TAMPERING["delete one"](session()), PUBLIC)
    with pytest.raises(ChainError) as cut:
        verify_chain(session()[:-1], PUBLIC)
    assert (edited.value.seq, deleted.value.seq, cut.value.seq) == (4, 3, 7)


def test_a_foreign_key_is_found() -> None:
    """A whole, consistent session that another key signed."""
    with pytest.raises(ChainError):
        verify_chain(session(key=Ed25519PrivateKey.generate()), PUBLIC)


def test_a_chain_that_begins_in_the_middle_is_found() -> None:
    """The first record must say that nothing is before it."""
    chain = Chain("ses_1", head="0" * 64)
    with pytest.raises(ChainError) as caught:
        verify_chain([chain.seal(start()), chain.seal_signed(end(), KEY)], PUBLIC)
    assert caught.value.seq == 0
    assert GENESIS == ""


@pytest.mark.parametrize(("name", "seq"), [("ses_2", 1), ("ses_1", 2)], ids=["another session", "a gap"])
def test_a_chain_is_of_one_session_without_gaps(name: str, seq: int) -> None:
    """Hashes that fit are not enough: each line says whose it is and which one."""
    chain = Chain("ses_1")
    first = chain.seal(start())
    with pytest.raises(ChainError, match="expected record 1 of session ses_1"):
        verify_chain([first, Chain(name, next_seq=seq, head=chain.head).seal_signed(end(), KEY)], PUBLIC)


@pytest.mark.parametrize("record", [refused(), reaped(), torn()], ids=lambda record: type(record).__name__)
def test_a_record_that_stands_alone_inside_a_session_is_found(
    record: AuthRefused | SessionReaped | JournalTorn,
) -> None:
    """Behind a start it would end the session with nothing said of its work."""
    chain = Chain("ses_1")
    lines = [chain.seal(start()), chain.seal_signed(record, KEY)]
    with pytest.raises(ChainError, match="a record that stands alone"):
        verify_chain(lines, PUBLIC)


def test_sql_cannot_imitate_the_signature() -> None:
    """The mark of the signature, inside a text, is escaped: it never is what rpartition finds."""
    chain = Chain("ses_1")
    lines = [chain.seal(start()), chain.seal(statement('",signature":"AAAA"}'))]
    ending = end()
    ending.by = ',"signature":"AAAA"}'
    lines.append(chain.seal_signed(ending, KEY))
    assert verify_chain(lines, PUBLIC) == 3


def test_a_second_signature_is_found() -> None:
    """Two `signature` members: readers would take one, and the check the other."""
    lines = session()
    head, _, tail = lines[-1].partition(b',"signature"')
    with pytest.raises(ChainError):
        verify_signature(head + b',"signature":"AAAA","signature"' + tail, PUBLIC)


@given(st.data())
def test_no_changed_byte_goes_unnoticed(data: st.DataObject) -> None:
    """Any one byte of any line, exchanged for any other."""
    lines = session(statements=1)
    number = data.draw(st.integers(0, len(lines) - 1))
    place = data.draw(st.integers(0, len(lines[number]) - 1))
    line = bytearray(lines[number])
    line[place] ^= data.draw(st.integers(1, 255))
    lines[number] = bytes(line)
    with pytest.raises((ChainError, RecordError)):
        verify_chain(lines, PUBLIC)
