"""The journal's files: names, the torn tail, reading whole lines, and finding the sessions that a crash left open.

Owns what lies in the journal's directory. Writing lines is `proxy.journal`'s; sending them on is `proxy.shipping`'s.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from proxy import files
from proxy.contract.record import Chain, Entry, RecordError, SessionStart, decode, line_hash

SUFFIX = ".ndjson"
DIGITS = 20
BLOCK_BYTES = 262_144
POSITION_FILE = "acknowledged.json"
MOST_TORN = 1_000
"""Breaks that are noted for a record; more crashes than that in a row, without one good start, are one fault."""
CHECKPOINT_FILE = "open-sessions.json"
TORN_FILE = "torn.json"

log = structlog.get_logger(__name__)


class Position(msgspec.Struct, frozen=True, order=True):
    """A place between two lines of the journal."""

    segment: int
    offset: int


class Torn(msgspec.Struct, frozen=True, kw_only=True):
    """What a crash has left of a line, and a start has cut off."""

    segment: int
    offset: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Whole lines as they stand in the journal, each with its newline."""

    body: bytes
    lines: int
    after: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSession:
    """A session that has a start and no end: its chain, to go on from, and how it began."""

    chain: Chain
    start: bytes
    """The line of its `session.start`."""

    @property
    def record(self) -> SessionStart:
        """The decoded `session.start`."""
        record = decode(self.start)
        if not isinstance(record, SessionStart):
            raise RecordError("not a session.start")
        return record


class _SavedSession(msgspec.Struct, frozen=True, kw_only=True):
    session: str
    next_seq: int
    head: str
    start: str


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The sessions that were open where `segment` begins, so that a start need not read what came before."""

    segment: int
    sessions: list[_SavedSession]
    next_entry: Entry | None = None


class _Heading(msgspec.Struct, frozen=True):
    """What finding open sessions needs of a line; decoding passes over the rest."""

    type: str
    session: str
    seq: int
    entry: Entry | None = None


@dataclass(slots=True, kw_only=True)
class Survey:
    """What a journal's segments tell whoever goes on with it."""

    open: dict[str, OpenSession]
    """The sessions with a start and no end, in the order in which they began."""
    next_entry: Entry | None
    """The place of the next session; None where there was none yet."""


_heading: msgspec.json.Decoder[_Heading] = msgspec.json.Decoder(_Heading)
_position: msgspec.json.Decoder[Position] = msgspec.json.Decoder(Position)
_torn: msgspec.json.Decoder[list[Torn]] = msgspec.json.Decoder(list[Torn])
_checkpoint: msgspec.json.Decoder[Checkpoint] = msgspec.json.Decoder(Checkpoint)


def path_of(directory: Path, number: int) -> Path:
    """The file of segment `number`. Names sort as their numbers do."""
    return directory / f"{number:0{DIGITS}}{SUFFIX}"


def numbers(directory: Path) -> list[int]:
    """The segments that are there, in order."""
    return sorted(
        int(path.name.removesuffix(SUFFIX))
        for path in directory.iterdir()
        if len(path.name) == DIGITS + len(SUFFIX) and path.suffix == SUFFIX and path.stem.isdecimal()
    )


def create(directory: Path, number: int) -> int:
    """A new segment, open for appending, its name on disk. Raises OSError, and then there is none."""
    path = path_of(directory, number)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, files.PRIVATE)
    try:
        files.sync_directory(directory)
    except OSError:
        os.close(file)
        path.unlink(missing_ok=True)
        raise
    return file


def retire(file: int, directory: Path, checkpoint: bytes) -> bool:
    """Sync and close a full segment, then save the checkpoint behind it. Returns whether that was saved too.

    Runs in a thread. Raises OSError where the sync fails; without the checkpoint the next start reads more, no worse.
    """
    try:
        os.fdatasync(file)
    finally:
        os.close(file)
    try:
        files.replace(directory / CHECKPOINT_FILE, checkpoint, durable=False)
    except OSError as error:
        log.warning("the journal's checkpoint cannot be saved", directory=str(directory), error=str(error))
        return False
    return True


def sync(directory: Path, unsure: Sequence[int]) -> bool:
    """Sync these segments, as far as they are there. Runs in a thread, in the place of a `retire` without checkpoint.

    Raises OSError where one cannot be synced.
    """
    for number in unsure:
        try:
            file = os.open(path_of(directory, number), os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            os.fdatasync(file)
        finally:
            os.close(file)
    return False


def cut_torn_tail(path: Path) -> int:
    """Cut the file back to its last whole line and return how many bytes that took away.

    Such a tail is a write that did not return, so nothing was forwarded on its strength. It is noted before it is cut
    (`load_torn`), so that the break gets its record whatever happens until then, but for a disk that takes no note.
    """
    with path.open("r+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        whole = size
        while whole:
            start = max(0, whole - BLOCK_BYTES)
            block = os.pread(file.fileno(), whole - start, start)
            if (found := block.rfind(b"\n")) >= 0:
                whole = start + found + 1
                break
            whole = start
        if whole != size:
            _note_torn(path.parent, Torn(segment=int(path.stem), offset=whole, bytes=size - whole))
            file.truncate(whole)
            os.fsync(file.fileno())
        return size - whole


def _note_torn(directory: Path, torn: Torn) -> None:
    noted = [*load_torn(directory), torn]
    try:
        files.replace(directory / TORN_FILE, msgspec.json.encode(noted[-MOST_TORN:]), durable=True)
    except OSError as error:
        # Without a start nobody would end the backends that the crash has left: a full disk must not keep it from that.
        log.critical("a break in the journal will have no record", **msgspec.structs.asdict(torn), error=str(error))


def load_torn(directory: Path) -> list[Torn]:
    """The breaks that have no record yet, the oldest first."""
    try:
        return _torn.decode((directory / TORN_FILE).read_bytes())
    except FileNotFoundError:
        return []
    except msgspec.MsgspecError as error:
        log.warning("what was noted of a break in the journal is unreadable", error=str(error))
        return []


def forget_torn(directory: Path) -> None:
    """They have their records. Raises OSError."""
    (directory / TORN_FILE).unlink(missing_ok=True)


def read_batch(directory: Path, start: Position, end: Position, *, max_bytes: int, max_lines: int) -> Batch | None:
    """The lines from `start` on, at most up to `end` (the writer's own position); None where there are none.

    A batch is of one segment, and a line longer than `max_bytes` is a batch of its own. Raises OSError.
    """
    while start < end:
        path = path_of(directory, start.segment)
        limit = end.offset if start.segment == end.segment else path.stat().st_size
        if start.offset < limit:
            return _read_lines(path, start, limit, max_bytes=max_bytes, max_lines=max_lines)
        following = [number for number in numbers(directory) if number > start.segment]
        start = Position(following[0], 0) if following else end
    return None


def _read_lines(path: Path, start: Position, limit: int, *, max_bytes: int, max_lines: int) -> Batch:
    with path.open("rb", buffering=0) as file:
        body = os.pread(file.fileno(), min(max_bytes, limit - start.offset), start.offset)
        end = body.rfind(b"\n") + 1
        if not end:
            body = _read_line(file.fileno(), path, start.offset, limit)
            end = len(body)
    lines = body.count(b"\n", 0, end)
    while lines > max_lines:  # their share of the bytes, and so perhaps a few less: lines are counted, and never split
        end = body.rfind(b"\n", 0, end * max_lines // lines) + 1 or body.find(b"\n") + 1
        lines = body.count(b"\n", 0, end)
    return Batch(body=body[:end], lines=lines, after=Position(start.segment, start.offset + end))


def _read_line(file: int, path: Path, start: int, limit: int) -> bytes:
    """One line, however long: where it ends is looked for first, so that it is in memory once."""
    at = start
    while at < limit and (block := os.pread(file, min(BLOCK_BYTES, limit - at), at)):
        if (found := block.find(b"\n")) >= 0:
            return os.pread(file, at + found + 1 - start, start)
        at += len(block)
    raise OSError(f"{path}: no whole line at offset {start}, although {limit} bytes were written")


def new_id() -> str:
    """The id of a new journal."""
    return os.urandom(16).hex()


def behind(entry: Entry, line: bytes) -> Entry:
    """The place behind the session that begins with `line` and has `entry`."""
    return Entry(journal=entry.journal, number=entry.number + 1, prev=line_hash(line))


def encode_checkpoint(segment: int, sessions: list[OpenSession], next_entry: Entry) -> bytes:
    """The checkpoint for the beginning of `segment`."""
    saved = [
        _SavedSession(
            session=one.chain.session,
            next_seq=one.chain.next_seq,
            head=one.chain.head,
            start=one.start.decode(),
        )
        for one in sessions
    ]
    return msgspec.json.encode(Checkpoint(segment=segment, sessions=saved, next_entry=next_entry))


def load_checkpoint(directory: Path) -> Checkpoint | None:
    """The checkpoint that was saved; None (and every segment is read) where there is none that can be used."""
    try:
        return _checkpoint.decode((directory / CHECKPOINT_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        log.warning("the journal's checkpoint is unreadable: reading every segment", error=str(error))
        return None


def save_position(directory: Path, position: Position) -> None:
    """Note how far control has everything. Not synced: what is forgotten is shipped again, and control knows it."""
    files.replace(directory / POSITION_FILE, msgspec.json.encode(position), durable=False)


def load_position(directory: Path) -> Position | None:
    """How far control has everything; None where that is not known."""
    try:
        return _position.decode((directory / POSITION_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        log.warning("what control has is not known: shipping every segment again", error=str(error))
        return None


def survey(directory: Path, checkpoint: Checkpoint | None) -> Survey:
    """Read the segments, from the checkpoint on. Raises OSError."""
    found = Survey(open={}, next_entry=None if checkpoint is None else checkpoint.next_entry)
    for one in checkpoint.sessions if checkpoint is not None else ():
        chain = Chain(one.session, next_seq=one.next_seq, head=one.head)
        found.open[one.session] = OpenSession(chain=chain, start=one.start.encode())
    for number in numbers(directory):
        if checkpoint is None or number >= checkpoint.segment:
            path = path_of(directory, number)
            for offset, line in _lines(path):
                _follow(found, line, path, offset)
    return found


def _follow(found: Survey, line: bytes, path: Path, offset: int) -> None:
    try:
        heading = _heading.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        # It is evidence, of damage if of nothing else: it stays, and its session's chain will show the gap.
        log.error("a line of the journal is no record", path=str(path), offset=offset, error=str(error))  # noqa: TRY400 the traceback would be of this loop
        return
    if heading.entry is not None:
        found.next_entry = behind(heading.entry, line)
    if heading.type == "session.start":
        found.open[heading.session] = OpenSession(chain=Chain(heading.session), start=line)
    if heading.type == "session.end":
        found.open.pop(heading.session, None)
    elif (session := found.open.get(heading.session)) is not None and heading.seq >= session.chain.next_seq:
        session.chain.follow(heading.seq, line)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Each line of the file without its newline, and its offset."""
    offset = 0
    with path.open("rb", buffering=BLOCK_BYTES) as file:
        for line in file:
            yield offset, line.removesuffix(b"\n")
            offset += len(line)
