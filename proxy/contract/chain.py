# cython: annotation_typing=False, binding=False
"""The hash chain that joins a session's records: numbering, sealing and signing lines (DESIGN.md 4.4).

On the hot path: a statement is not forwarded before its record is sealed and written. So a line's own hash, which only
the next record needs, is taken after that, by `settle` or by whoever asks for `head` first.
"""

import base64
import time
from typing import TYPE_CHECKING

import msgspec

from proxy.contract.digest import sha256_hex

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from proxy.contract.record import AuthRefused, JournalTorn, Record, SessionEnd, SessionReaped

RECORD_VERSION = 1
GENESIS = ""
"""What a session's first record has as `prev`."""
SIGNATURE_MARK = b',"signature":"'

_encode = msgspec.json.Encoder().encode
_now = time.time_ns


def line_hash(line: bytes) -> str:
    """What the next record of the session has as `prev`: SHA-256 of the line without its newline, in hex."""
    return sha256_hex(line)


class Chain:
    """One session's chain: numbers its records and joins them."""

    __slots__ = ("_head", "_unhashed", "_versioned", "next_seq", "session")

    def __init__(self, session: str, *, next_seq: int = 0, head: str = GENESIS) -> None:
        self.session = session
        self.next_seq = next_seq
        self._head = head
        self._versioned = f'","v":{RECORD_VERSION},"session":{_encode(session).decode()},"seq":'
        self._unhashed: bytes | None = None

    @property
    def head(self) -> str:
        """The hash of the last line, which the next record has as `prev`."""
        self.settle()
        return self._head

    def settle(self) -> None:
        """Take the last line's hash, if nobody has yet."""
        if self._unhashed is not None:
            self._head = sha256_hex(self._unhashed)
            self._unhashed = None

    def follow(self, seq: int, line: bytes) -> None:
        """Go on behind `line`, which was sealed before as number `seq`."""
        self.next_seq = seq + 1
        self._unhashed = line

    def seal(self, record: "Record", at: int | None = None) -> bytes:
        """Complete `record` and return its line, without newline; the chain's head moves on."""
        self.settle()
        record.v = RECORD_VERSION
        record.session = self.session
        record.seq = self.next_seq
        record.at = _now() if at is None else at
        record.prev = self._head
        line: bytes = _encode(record)
        self.next_seq += 1
        self._unhashed = line
        return line

    def seal_fields(self, kind: str, fields: str) -> bytes:
        """As `seal`, for a record of type `kind` whose own fields are JSON already, each with a comma before it."""
        self.settle()
        at = _now()
        text = f'{{"type":"{kind}{self._versioned}{self.next_seq},"at":{at},"prev":"{self._head}"{fields}}}'
        line = text.encode()
        self.next_seq += 1
        self._unhashed = line
        return line

    def seal_signed(
        self,
        record: "SessionEnd | AuthRefused | SessionReaped | JournalTorn",
        key: "Ed25519PrivateKey",
        at: int | None = None,
    ) -> bytes:
        """As `seal`, for the last record: signed by the proxy's key, and so is, through `prev`, all before it."""
        record.signature = ""
        unsigned = self.seal(record, at)[:-1]
        line = unsigned + SIGNATURE_MARK + base64.b64encode(key.sign(unsigned)) + b'"}'
        self._unhashed = line
        return line
