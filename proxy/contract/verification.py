"""Checking a session's records: their numbers, the hash chain that joins them, and the signature (DESIGN.md 4.4).

Pure: lines in, a count or an error out. It never judges what a statement did (see `control.evidence`).
"""

import base64
from collections.abc import Iterable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from proxy.contract.chain import GENESIS, SIGNATURE_MARK, line_hash
from proxy.contract.record import ALONE, LAST, AnyRecord, decode


class ChainError(Exception):
    """A session's records are not what the proxy wrote. `seq` is the first bad one's number, where that is known."""

    def __init__(self, text: str, *, seq: int | None = None) -> None:
        super().__init__(text)
        self.seq = seq


def verify_signature(line: bytes, key: Ed25519PublicKey) -> None:
    """Check the signature on a line of one of `LAST`'s types. Raises ChainError."""
    unsigned, mark, rest = line.rpartition(SIGNATURE_MARK)
    try:
        if not mark or not rest.endswith(b'"}'):
            raise ValueError("no signature")
        key.verify(base64.b64decode(rest[:-2], validate=True), unsigned)
    except (ValueError, InvalidSignature) as error:
        raise ChainError("the session's last record is not signed by this key") from error


def verify_chain(lines: Iterable[bytes], key: Ed25519PublicKey | None = None) -> int:
    """Check one session's lines in order: numbers, chain, and with `key` the signature. Returns how many there are.

    Raises ChainError naming the first record that is not what was written, RecordError for a line that is none.
    A session whose last record is none of `LAST` is reported too: it runs on, or its tail is cut.
    """
    head, count, session = GENESIS, 0, None
    last: AnyRecord | None = None
    line = b""
    for line in lines:
        if isinstance(last, LAST):
            raise ChainError("a record behind the session's end", seq=count)
        last = decode(line)
        session = last.session if session is None else session
        if last.session != session or last.seq != count:
            raise ChainError(f"expected record {count} of session {session}", seq=count)
        if last.prev != head:
            raise ChainError("the record before it was changed", seq=count)
        if isinstance(last, ALONE) and count:
            # It would end the session and say nothing of its open work.
            raise ChainError("inside a session, a record that stands alone", seq=count)
        head, count = line_hash(line), count + 1
    if not isinstance(last, LAST):
        raise ChainError("the session has no end: it is still running, or its tail was cut", seq=count)
    if key is not None:
        verify_signature(line, key)
    return count
