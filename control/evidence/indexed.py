"""What the index for searches takes from the log: which records are statements, and by what each can be found. Pure."""

import base64
import binascii
import bisect
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal, TypeAlias

import msgspec

from control.evidence.parsed import Label
from control.evidence.shapes import Shape
from control.store.index.log import Line
from control.store.index.writing import CLASS, DURATION, ID, ROWS, SQLSTATE, End, Piece, Row, Term
from proxy.contract.chain import RECORD_VERSION
from proxy.contract.record import AnyRecord, Parameter, Ran, StatementEnd, StatementPrepare, StatementStart

LONG: Final = 1 << 20
"""Of longer records only the beginning is read: their text is neither parsed nor searched."""
LARGEST: Final = 2**63 - 1
KINDS: Final = (
    "all",
    "person",
    "target",
    "session",
    "class",
    "table",
    "written",
    "function",
    "label",
    "sqlstate",
    "rows",
)
"""Of terms."""
EVERY: Final = ("all", "")
"""The term that every statement has."""
STEPS: Final = sorted(
    step * 10**digits for digits in range(1, 19) for step in (1, 2, 5) if step * 10**digits <= LARGEST
)
"""So many rows have a term each."""
_SHORT: Final = 200
"""Longer texts are known again by their digest."""
_TAG_CHARACTERS: Final = 40
_SHORTEST: Final = 3
"""Characters that a text has which can be searched for."""


class _Value(msgspec.Struct, gc=False):
    value: str | int | float | bool | None = None


class _Said(msgspec.Struct, tag_field="type", kw_only=True, gc=False):
    """What the index reads of a record: less than there is."""

    v: int | None = None
    at: int = 0


class _Start(_Said, tag="statement.start"):
    statement: int
    kind: Literal["query", "execute", "function"]
    sql: str
    sql_base64: str | None = None
    parameters: list[_Value] | None = None


class _Prepare(_Said, tag="statement.prepare"):
    sql: str
    sql_base64: str | None = None
    parameters: list[_Value] | None = None


class _Ran(msgspec.Struct, gc=False):
    sql: str
    sql_base64: str | None = None
    parameters: list[_Value] | None = None


class _End(_Said, tag="statement.end"):
    statement: int
    tags: list[str] = []
    rows: int = 0
    duration: int = 0
    sqlstate: str | None = None
    ran: _Ran | None = None


class _Over(_Said, tag="session.end"):
    pass


_Text: TypeAlias = _Start | _Prepare | _Ran
_decode = msgspec.json.Decoder(_Start | _Prepare | _End | _Over).decode


class _Head(msgspec.Struct, kw_only=True):
    """The beginning of a record that is too long to be read."""

    type: str = ""
    at: int = 0
    statement: int | None = None
    kind: str = "query"


_head = msgspec.json.Decoder(_Head)


@dataclass(slots=True)
class Fact:
    """What one record says of a statement: that it was asked for (with a text), that it has ended, or both.

    Or that its session has. There are a great many of these, so they are made as cheaply as can be.
    """

    leaf: int
    session: int
    statement: int | None
    at: int
    kind: str | None = None
    """None where it is an end alone."""
    text: _Text | None = None
    label: Label | None = None
    """Why there is no text to be looked at."""
    end: _End | None = None
    over: bool = False
    """The session has ended."""

    @property
    def sql(self) -> bytes:
        """The text's exact bytes."""
        assert self.text is not None
        if self.text.sql_base64 is not None:
            try:
                return base64.b64decode(self.text.sql_base64, validate=True)
            except binascii.Error:  # no proxy of ours writes that
                pass
        return self.text.sql.encode(errors="backslashreplace")


def read_facts(lines: Iterable[Line]) -> list[Fact]:
    """What these records say of statements. Other records are passed over."""
    facts = (_fact(one) if one.size <= LONG else _long(one) for one in lines)
    return [fact for fact in facts if fact is not None]


def _fact(one: Line) -> Fact | None:
    try:
        record = _decode(one.line)
    except (msgspec.MsgspecError, UnicodeDecodeError):  # another record, or a newer control has stored it
        return None
    if record.v != RECORD_VERSION:
        return None
    return _of_record(one, record)


def _of_record(one: Line, record: _Start | _Prepare | _End | _Over) -> Fact:
    if isinstance(record, _End):
        end = Fact(one.leaf, one.session, record.statement, record.at, end=record)
        if record.ran is not None:
            end.kind, end.text = "execute", record.ran
        return end
    if isinstance(record, _Start):
        if record.kind == "function":
            return Fact(one.leaf, one.session, record.statement, record.at, record.kind, label=Label.FUNCTION)
        return Fact(one.leaf, one.session, record.statement, record.at, record.kind, record)
    if isinstance(record, _Prepare):
        return Fact(one.leaf, one.session, None, record.at, "prepare", record)
    return Fact(one.leaf, one.session, None, record.at, over=True)


def _long(one: Line) -> Fact | None:
    """The beginning of a long record, up to its first text. Fields come in their order (`proxy.contract.record`)."""
    ends = [end for mark in (b',"sql":', b',"ran":', b',"tags":') if (end := one.line.find(mark)) > 0]
    try:
        head = _head.decode(one.line[: min(ends)] + b"}")
    except (ValueError, msgspec.MsgspecError):
        return None
    kinds = {"statement.start": head.kind, "statement.prepare": "prepare", "statement.end": "execute"}
    if head.type not in kinds:
        return None
    return Fact(one.leaf, one.session, head.statement, head.at, kinds[head.type], label=Label.LONG)


def said_in(record: AnyRecord) -> StatementStart | StatementPrepare | Ran | None:
    """What a record says that was, or was to be, executed."""
    match record:
        case StatementStart() | StatementPrepare():
            return record
        case StatementEnd():
            return record.ran
        case _:
            return None


def where(said: StatementStart | StatementPrepare | Ran, text: str) -> tuple[bool, bool]:
    """Whether a folded text is in the SQL, and whether it is in the values."""
    return text in fold(said.sql), bool(said.parameters) and text in fold(_values(said.parameters))


def fold(text: str) -> str:
    """As texts are compared: character by character, whatever stands around one. The tokenizer would end at a NUL."""
    return text.casefold().replace("\0", "\ufffd")


def _values(parameters: Iterable[Parameter | _Value] | None) -> str:
    """The parameters' values, a line each."""
    values = (one.value for one in parameters or ())
    return "\n".join(str(value) for value in values if value is not None and not isinstance(value, bool))


def command_of(tag: str) -> str:
    """The command in a command tag: `INSERT` of `INSERT 0 1`."""
    return " ".join(word for word in tag[:_TAG_CHARACTERS].split(" ") if not word.isdecimal())


@dataclass(slots=True)
class _Gathered:
    """The statements of a piece, by what gives them their terms: there are fewer of these."""

    by_shape: dict[Shape, list[int]] = field(default_factory=dict)
    by_session: dict[int, list[int]] = field(default_factory=dict)
    by_end: dict[tuple[tuple[str, ...], str | None, int], list[int]] = field(default_factory=dict)

    def places(self, people: Mapping[int, tuple[str | None, str | None]]) -> dict[Term, list[int]]:
        """The ids of the statements that have a term."""
        found: dict[Term, list[int]] = {}
        for shape, ids in self.by_shape.items():
            for term in (EVERY, *shape.terms):
                found.setdefault(term, []).extend(ids)
        for number, ids in self.by_session.items():
            person, target = people.get(number, (None, None))
            terms = (("session", str(number)), ("person", person), ("target", target))
            for kind, name in terms:
                if name is not None:
                    found.setdefault((kind, name), []).extend(ids)
        for (tags, sqlstate, reached), ids in self.by_end.items():
            for term in end_terms(tags, sqlstate, reached)[0]:
                found.setdefault(term, []).extend(ids)
        return found


def sort_out(
    facts: Sequence[Fact],
    shapes: Sequence[Shape | None],
    people: Mapping[int, tuple[str | None, str | None]],
    seen: dict[str | bytes, int],
) -> Piece:
    """A piece of the log as it goes into the index. Statements that begin and end in it are taken in as they ended.

    `seen` has the texts that were in this block before, by what they are known by, and where each was first.
    """
    piece, gathered = Piece(first_at=LARGEST), _Gathered()
    begun: dict[tuple[int, int], list[Row]] = {}
    for fact, shape in zip(facts, shapes, strict=True):
        if fact.over:
            piece.over.add(fact.session)
            continue
        row = None if shape is None else _begin(fact, shape, piece, gathered)
        if row is not None and fact.text is not None:
            _take_text(fact, fact.text, piece, seen)
        if fact.end is not None:
            key = (fact.session, fact.end.statement)
            own = begun.pop(key, None)
            if own is None:  # it began in an earlier piece
                piece.ends.append(_end(fact.session, fact.end))
            _finish([*(own or ()), *([] if row is None else [row])], fact.end, gathered)
        elif row is not None and fact.statement is not None:
            begun.setdefault((fact.session, fact.statement), []).append(row)
    for (session, statement), rows in begun.items():
        piece.begun += [(session, statement, row[ID]) for row in rows]  # type: ignore[misc] # an id
    piece.places = gathered.places(people)
    return piece


def _begin(fact: Fact, shape: Shape, piece: Piece, gathered: _Gathered) -> Row:
    at = max(0, min(fact.at, LARGEST))
    piece.first_at, piece.last_at = min(piece.first_at, at), max(piece.last_at, at)
    classes = shape.parsed.classes
    word = classes[0] if classes else None
    leaf, session, digest = fact.leaf, fact.session, shape.digest
    row: Row = [leaf, session, fact.statement, fact.kind, at, digest, word, None, None, None]
    piece.rows.append(row)
    piece.shapes.setdefault(digest, shape.packed)
    gathered.by_shape.setdefault(shape, []).append(leaf)
    gathered.by_session.setdefault(session, []).append(leaf)
    return row


def _take_text(fact: Fact, text: _Text, piece: Piece, seen: dict[str | bytes, int]) -> None:
    """The SQL, where it is new in this block, and the values."""
    sql = text.sql
    known_by = sql if len(sql) <= _SHORT else hashlib.blake2b(sql.encode(errors="surrogatepass")).digest()
    values = _values(text.parameters) if text.parameters else ""
    first = seen.setdefault(known_by, fact.leaf)
    if first == fact.leaf:
        values = f"{sql}\n{values}" if values else sql
    else:
        piece.repeats.setdefault(first, []).append(fact.leaf)
    if len(values) >= _SHORTEST:
        piece.texts.append((fact.leaf, fold(values)))


def _finish(rows: Sequence[Row], end: _End, gathered: _Gathered) -> None:
    reached = magnitude(end.rows)
    key = (tuple(end.tags), end.sqlstate, reached)
    word = end_terms(*key)[1]
    for row in rows:
        row[ROWS] = min(end.rows, LARGEST)
        row[DURATION] = max(0, min(end.duration, LARGEST))
        row[SQLSTATE] = end.sqlstate
        if row[CLASS] is None:
            row[CLASS] = word
        gathered.by_end.setdefault(key, []).append(row[ID])  # type: ignore[arg-type] # an id


def _end(session: int, end: _End) -> End:
    terms, word = end_terms(tuple(end.tags), end.sqlstate, magnitude(end.rows))
    return End(
        session=session,
        statement=end.statement,
        rows=min(end.rows, LARGEST),
        duration=max(0, min(end.duration, LARGEST)),
        sqlstate=end.sqlstate,
        terms=terms,
        class_=word,
    )


@lru_cache(maxsize=10_000)
def end_terms(tags: tuple[str, ...], sqlstate: str | None, reached: int) -> tuple[tuple[Term, ...], str | None]:
    """By what a statement is found once it has ended so; and PostgreSQL's own word for it."""
    commands = [command for tag in tags if (command := command_of(tag))]
    terms: set[Term] = {("class", command) for command in commands}
    if sqlstate is not None:
        terms |= {("sqlstate", sqlstate), ("sqlstate", sqlstate[:2])}
    terms |= {("rows", str(step)) for step in STEPS[:reached]}
    return tuple(sorted(terms)), commands[0] if commands else None


def magnitude(rows: int) -> int:
    """How many of STEPS so many rows reach."""
    return bisect.bisect_right(STEPS, rows)
