"""The chain by itself: hashes that are taken late are the same hashes."""

import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy.contract.chain import GENESIS, Chain, line_hash
from proxy.contract.record import Notice, SessionEnd
from proxy.contract.verification import verify_chain, verify_signature


def notice(text: str = "soon") -> Notice:
    """A small record."""
    return Notice(severity="NOTICE", sqlstate="00000", message=text)


def end() -> SessionEnd:
    """A last one."""
    return SessionEnd(reason="closed", decided_at=1, outcome="nothing open", statements=0, bytes_in=0, bytes_out=0)


def test_a_new_chain() -> None:
    """Begins at record 0, behind nothing."""
    chain = Chain("ses_1")
    assert (chain.session, chain.next_seq, chain.head) == ("ses_1", 0, GENESIS)
    line = json.loads(chain.seal(notice(), at=5))
    assert (line["v"], line["session"], line["seq"], line["at"], line["prev"]) == (1, "ses_1", 0, 5, "")


def test_each_line_has_the_hash_of_the_one_before_it() -> None:
    """SHA-256 over the line as it stands in the journal."""
    chain = Chain("ses_1")
    first, second = chain.seal(notice("a")), chain.seal(notice("b"))
    assert json.loads(second)["prev"] == hashlib.sha256(first).hexdigest() == line_hash(first)
    assert chain.head == hashlib.sha256(second).hexdigest()


@pytest.mark.parametrize("often", [0, 1, 3])
def test_settling_changes_nothing(often: int) -> None:
    """Whether, when and how often the hash is taken: the lines are the same."""
    chain, settled = Chain("ses_1"), Chain("ses_1")
    for number in range(3):
        line = chain.seal(notice(str(number)), at=number)
        assert settled.seal(notice(str(number)), at=number) == line
        for _ in range(often):
            settled.settle()
    assert settled.head == chain.head


def test_following_a_stored_line() -> None:
    """After a restart the chain goes on behind the last line that was written."""
    before = Chain("ses_1")
    lines = [before.seal(notice(str(number))) for number in range(3)]
    after = Chain("ses_1")
    after.follow(2, lines[-1])
    assert (after.next_seq, after.head) == (3, before.head)
    lines.append(after.seal_signed(end(), Ed25519PrivateKey.generate()))
    assert verify_chain(lines) == 4


def test_a_known_head() -> None:
    """A chain can be taken up by number and hash alone."""
    chain = Chain("ses_1", next_seq=7, head="abc")
    line = json.loads(chain.seal(notice()))
    assert (line["seq"], line["prev"]) == (7, "abc")


def test_the_signature_is_over_the_line_before_it() -> None:
    """And the head is the hash of the whole line, signature and all."""
    key = Ed25519PrivateKey.generate()
    chain = Chain("ses_1")
    line = chain.seal_signed(end(), key)
    verify_signature(line, key.public_key())
    assert chain.head == line_hash(line)
    assert line.count(b'"signature"') == 1


def test_signing_twice_signs_anew() -> None:
    """A record that was signed before, and could not be written, carries nothing of its first signature."""
    key = Ed25519PrivateKey.generate()
    record = end()
    Chain("ses_1").seal_signed(record, key)
    line = Chain("ses_2").seal_signed(record, key)
    verify_signature(line, key.public_key())
    assert json.loads(line)["session"] == "ses_2"


def test_time_is_the_wall_clock_s() -> None:
    """Where no moment is given, it is now, in nanoseconds."""
    record = notice()
    Chain("ses_1").seal(record)
    assert record.at > 1_700_000_000 * 10**9


@pytest.mark.parametrize("session", ["ses_1", 'a "quoted" one'])
def test_fields_that_are_json_already(session: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the line that the record itself would make, behind any line."""
    monkeypatch.setattr("proxy.contract.chain._now", lambda: 7)
    whole, fields = Chain(session), Chain(session)
    for chain in (whole, fields):
        chain.seal(notice(), at=5)
    line = whole.seal(notice("now"))
    assert fields.seal_fields("notice", ',"severity":"NOTICE","sqlstate":"00000","message":"now"') == line
    assert (fields.head, fields.next_seq) == (whole.head, whole.next_seq)
