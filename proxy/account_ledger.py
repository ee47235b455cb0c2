"""The ledger: which accounts this process has made, or was about to make, and has not yet seen to be gone.

A line is on disk before the account is made, so whatever kills the process, the next start knows what to look for
(`proxy.accounts`). NDJSON, one event a line; a torn last line is one that nothing was done upon. Knows no PostgreSQL.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

import msgspec
import structlog

from proxy import files

FILE = "accounts.ndjson"
COMPACT_BYTES = 262_144
"""The ledger is written anew, of what is open alone, when it has grown beyond this and beyond twice what is open."""
_ENTRY_BYTES = 2_000
"""What an open entry may take, names of 63 bytes escaped in the worst way included."""

log = structlog.get_logger(__name__)


class LedgerError(OSError):
    """The ledger cannot be written or read: no account is made then. The text names the file."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One account."""

    account: str
    target: str
    grant: str
    person: str
    identity: Literal["ephemeral", "elevated"]
    until: float
    """The grant's end, seconds since the epoch."""
    finish_s: float = 0.0
    """As in `proxy.account_names.Mark`."""
    revoked: bool = False
    """The grant has ended before its time."""


class _Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    v: Literal[1] = 1
    open: Entry | None = None
    gone: tuple[str, str] | None = None
    """Target and account."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Line)


class Ledger:
    """The open ledger of one process. Its methods wait for the disk: call them in a thread, one at a time."""

    def __init__(self, path: Path, descriptor: int, entries: dict[tuple[str, str], Entry]) -> None:
        self._path = path
        self._descriptor = descriptor
        self._entries = entries
        self._bytes = 0

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The ledger in `folder`, made there if need be, with what is open in it alone.

        Raises LedgerError, also where another process has it.
        """
        path = folder / FILE
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = files.lock(path)
            ledger = cls(path, descriptor, _read(path))
            ledger._compact()
        except OSError as error:
            raise LedgerError(f"{path}: {error.strerror or error}") from error
        return ledger

    @property
    def entries(self) -> Mapping[tuple[str, str], Entry]:
        """What is open, by target and account."""
        return self._entries

    def note(self, entry: Entry) -> None:
        """Write that `entry` is to be looked after; it is on disk when this returns. Raises LedgerError."""
        key = (entry.target, entry.account)
        if self._entries.get(key) != entry:
            self._append(_Line(open=entry))
            self._entries[key] = entry

    def strike(self, target: str, account: str) -> None:
        """Write that the account is gone. Raises LedgerError."""
        if (target, account) in self._entries:
            self._append(
                _Line(gone=(target, account)), durable=False
            )  # if it is lost, what is gone is looked for again
            del self._entries[target, account]
            if self._bytes > max(COMPACT_BYTES, 2 * _ENTRY_BYTES * len(self._entries)):
                try:
                    self._compact()
                except OSError as error:
                    raise LedgerError(f"{self._path}: {error.strerror or error}") from error

    def remove(self) -> None:
        """Close it and take the file away: another ledger has what was open. Raises LedgerError."""
        try:
            self._path.unlink(missing_ok=True)
            files.sync_directory(self._path.parent)
        except OSError as error:
            raise LedgerError(f"{self._path}: {error.strerror or error}") from error
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _append(self, line: _Line, *, durable: bool = True) -> None:
        data = _encoder.encode(line) + b"\n"
        try:
            before = os.fstat(self._descriptor).st_size
            if os.write(self._descriptor, data) != len(data):
                os.ftruncate(self._descriptor, before)  # else the next line would stand in the rest of this one
                raise OSError("the disk is full")
            if durable:
                os.fsync(self._descriptor)
        except OSError as error:
            raise LedgerError(f"{self._path}: {error.strerror or error}") from error
        self._bytes += len(data)

    def _compact(self) -> None:
        """Write the open entries alone into a new file, and go on in that."""
        data = b"".join(_encoder.encode(_Line(open=entry)) + b"\n" for entry in self._entries.values())
        files.replace(self._path, data, durable=True)
        fresh = files.lock(self._path)
        self.close()
        self._descriptor, self._bytes = fresh, len(data)


def _read(path: Path) -> dict[tuple[str, str], Entry]:
    """What is open in the file. Raises OSError."""
    entries: dict[tuple[str, str], Entry] = {}
    *lines, torn = path.read_bytes().split(b"\n")
    if torn:
        log.info("the ledger's last line was not finished; nothing was done upon it", ledger=str(path))
    for number, text in enumerate(lines, 1):
        try:
            line = _decoder.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.error(  # noqa: TRY400 an operator's matter, not a fault of the code
                "a line of the ledger cannot be read; what it tells of is found by the sweep",
                ledger=str(path),
                line=number,
                error=str(error),
            )
            continue
        if line.open is not None:
            entries[line.open.target, line.open.account] = line.open
        if line.gone is not None:
            entries.pop(line.gone, None)
    return entries
