"""Checking a session's records against what the proxy wrote: the client's side of `proxy.contract.record`.

Reads lines, from the service or a file, and says what holds. Works offline: a file and a public key are enough.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from control.client.errors import ClientError
from proxy.contract import proof, succession
from proxy.contract.chain import line_hash
from proxy.contract.merkle import leaf_hash
from proxy.contract.record import AuthRefused, Entry, RecordError, SessionStart, StatementStart, decode
from proxy.contract.verification import ChainError, verify_chain, verify_signature

KEY_BYTES = 4_096


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What was found for one session. `fault` is None where all of it holds."""

    session: str
    records: int
    statements: int
    proxy: str | None
    refused: bool
    """A connection that was not admitted: its one record is all that there is."""
    signature: Literal["good", "not checked"]
    log: Literal["proven", "not checked"] = "not checked"
    """Whether every record is proven to be the one in the log, and all that the log has of this session are there."""
    fault: str | None = None
    seq: int | None = None
    """The first bad record."""


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """What the records say by themselves, and what the log is held against."""

    checked: Checked
    leaves: list[bytes]
    """The hash of each line that was read, as a leaf of the log."""
    complete: bool
    """Whether all were read: behind a fault nothing is."""
    place: Entry | None = None
    """Where the session stands in its proxy's journal."""
    digest: str = ""
    """The hash of its first line, which the journal's next session has."""
    promise: Entry | None = None
    """What its end says of the journal's next session."""


class _Counted:
    """Passes lines on and keeps what a report needs from them, so that one pass over them is enough."""

    def __init__(self, lines: Iterable[bytes], session: str | None) -> None:
        self._lines = iter(lines)
        self.session = session or "unknown"
        self._wanted = session
        self.statements = 0
        self.proxy: str | None = None
        self.records = 0
        self.refused = False
        self.last = b""
        self.leaves: list[bytes] = []
        self.complete = False
        self.place: Entry | None = None
        self.digest = ""
        self.promise: Entry | None = None

    def __iter__(self) -> Iterator[bytes]:
        for line in self._lines:
            self.leaves.append(leaf_hash(line))
            record = decode(line)
            if self._wanted is None:
                self._wanted = self.session = record.session
            if record.session != self._wanted:
                raise ChainError(f"a record of session {record.session}", seq=self.records)
            if record.seq != self.records:
                raise ChainError(self._misplaced(record.seq), seq=self.records)
            if record.seq == 0:
                self.place, self.digest = succession.place(record), line_hash(line)
            self.promise = succession.promise(record)
            self.statements += isinstance(record, StatementStart)
            if isinstance(record, SessionStart):
                self.proxy = record.proxy
            self.refused = isinstance(record, AuthRefused)
            self.last = line
            yield line
            self.records += 1
        self.complete = True

    def _misplaced(self, seq: int) -> str:
        """What happened where record `seq` stands in the place of another one."""
        if seq < self.records:
            return f"record {seq} stands here again"
        following = next(self._lines, None)
        with suppress(RecordError):
            if following is not None and decode(following).seq == self.records:
                return f"record {seq} stands in its place, and it comes behind: they were swapped"
        return f"it is missing: record {seq} stands in its place"


def check(lines: Iterable[bytes], keys: Sequence[Ed25519PublicKey], *, session: str | None = None) -> Checked:
    """Check one session's lines: the chain, and with `keys` that one of them has signed it.

    With `session`, another session's records are a fault, however whole they are.
    """
    return examine(lines, keys, session=session).checked


def examine(lines: Iterable[bytes], keys: Sequence[Ed25519PublicKey], *, session: str | None = None) -> Examined:
    """As `check`, with what `against_log` needs."""
    counted = _Counted(lines, session)
    fault: str | None = None
    seq: int | None = None
    try:
        verify_chain(counted)
        if keys and not any(_signed(counted.last, key) for key in keys):
            raise ChainError("the last record is not signed by this proxy", seq=counted.records - 1)
    except ChainError as error:
        fault, seq = str(error), error.seq
    except RecordError as error:
        fault, seq = str(error), counted.records
    checked = Checked(
        session=counted.session,
        records=counted.records,
        statements=counted.statements,
        proxy=counted.proxy,
        refused=counted.refused,
        signature="good" if keys and not fault else "not checked",
        fault=fault,
        seq=seq,
    )
    return Examined(
        checked=checked,
        leaves=counted.leaves,
        complete=counted.complete,
        place=counted.place,
        digest=counted.digest,
        promise=counted.promise,
    )


def against_log(examined: Examined, proven: Sequence[bytes]) -> Checked:
    """Hold the lines against the hashes that the log is proven to have for this session, one for each of its records.

    The chain tells that a record was changed by the next one, and nothing where all that follow were made anew. The log
    tells of each record by itself, so it names the first bad one.
    """
    checked, leaves = examined.checked, examined.leaves
    pairs = zip(leaves, proven, strict=False)
    bad = next((seq for seq, (own, logged) in enumerate(pairs) if own != logged), None)
    if bad is not None:
        if checked.seq is not None and checked.seq <= bad:
            return checked
        return _faulty(checked, bad, "it is not the record that the log has: it was changed")
    if len(leaves) > len(proven):
        known = checked.seq is not None and checked.seq <= len(proven)
        return checked if known else _faulty(checked, len(proven), "it is not in the log")
    if examined.complete and len(leaves) < len(proven):
        more = len(proven) - len(leaves)
        return _faulty(checked, len(leaves), f"the tail was cut: the log has {more} more of this session")
    return checked if checked.fault else msgspec.structs.replace(checked, log="proven")


def _faulty(checked: Checked, seq: int, fault: str) -> Checked:
    return msgspec.structs.replace(checked, fault=fault, seq=seq, signature="not checked")


def _signed(line: bytes, key: Ed25519PublicKey) -> bool:
    try:
        verify_signature(line, key)
    except ChainError:
        return False
    return True


def by_session(lines: Iterable[bytes]) -> dict[str, list[bytes]]:
    """A file's lines by session, each in order. Raises ClientError for a line that is no record."""
    sessions: dict[str, list[bytes]] = {}
    for number, raw in enumerate(lines, start=1):
        line = raw.removesuffix(b"\n")
        if not line:
            continue
        try:
            sessions.setdefault(decode(line).session, []).append(line)
        except RecordError as error:
            raise ClientError(f"line {number} is bad: {error}") from error
    return sessions


def public_key(text: str) -> Ed25519PublicKey:
    """The key in `text`: base64url as the API shows it, or the name of a file with that or PEM. Raises ClientError."""
    path = Path(text)
    try:
        content = path.read_bytes()[:KEY_BYTES] if path.is_file() else text.encode()
        if b"-----BEGIN" in content:
            key = load_pem_public_key(content)
            if not isinstance(key, Ed25519PublicKey):
                raise TypeError("not Ed25519")
            return key
        return proof.public_key(content.decode().strip())
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ClientError(
            "that is no proxy's public key",
            hint="give 43 characters of base64url as GET /v1/proxies shows them, or a file with them or with PEM",
        ) from error
