"""What the index for searches takes from the log: which records are statements, and by what each can be found. Pure."""

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from control.evidence.names import tails
from control.evidence.parsed import Label, Parsed
from control.store.statements import End, Entry, Line, Piece, Term
from proxy.contract.record import (
    AnyRecord,
    Parameter,
    Ran,
    RecordError,
    StatementEnd,
    StatementPrepare,
    StatementStart,
    decode,
)

LONG = 1 << 20
"""Of longer records only the beginning is read: their text is neither parsed nor searched."""
LARGEST = 2**63 - 1
KINDS = ("person", "target", "session", "class", "table", "written", "function", "label", "sqlstate", "rows")
"""Of terms."""
_TAG_CHARACTERS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What one record says of a statement: that it was asked for (with a text), that it has ended, or both (`ran`)."""

    leaf: int
    session: int
    statement: int | None
    kind: str | None = None
    """None where it is an end alone."""
    at: int = 0
    sql: bytes | None = None
    text: str = ""
    values: str = ""
    """The parameters' values, a line each."""
    label: Label | None = None
    end: StatementEnd | None = None


class _Head(msgspec.Struct, kw_only=True):
    """The beginning of a record that is too long to be read."""

    type: str = ""
    at: int = 0
    statement: int | None = None
    kind: str = "query"


_head = msgspec.json.Decoder(_Head)


def read_facts(lines: Sequence[Line]) -> list[Fact]:
    """What these records say of statements. Other records are passed over."""
    facts = (_fact(one) if one.size <= LONG else _long(one) for one in lines)
    return [fact for fact in facts if fact is not None]


def _fact(one: Line) -> Fact | None:
    try:
        record = decode(one.line)
    except RecordError:  # a newer control has stored it
        return None
    match record:
        case StatementStart():
            fact = Fact(leaf=one.leaf, session=one.session, statement=record.statement, kind=record.kind, at=record.at)
            return replace(fact, label=Label.FUNCTION) if record.kind == "function" else _with_text(fact, record)
        case StatementPrepare():
            fact = Fact(leaf=one.leaf, session=one.session, statement=None, kind="prepare", at=record.at)
            return _with_text(fact, record)
        case StatementEnd():
            fact = Fact(leaf=one.leaf, session=one.session, statement=record.statement, at=record.at, end=record)
            return fact if record.ran is None else _with_text(replace(fact, kind="execute"), record.ran)
        case _:
            return None


def _with_text(fact: Fact, said: StatementStart | StatementPrepare | Ran) -> Fact:
    return replace(fact, sql=_exact(said), text=said.sql, values=_values(said.parameters))


def _exact(said: StatementStart | StatementPrepare | Ran) -> bytes:
    if said.sql_base64 is not None:
        try:
            return base64.b64decode(said.sql_base64, validate=True)
        except binascii.Error:  # no proxy of ours writes that
            pass
    return said.sql.encode(errors="backslashreplace")


def _values(parameters: Iterable[Parameter] | None) -> str:
    values = (one.value for one in parameters or ())
    return "\n".join(str(value) for value in values if value is not None and not isinstance(value, bool))


def _long(one: Line) -> Fact | None:
    """The beginning of a long record, up to its first text. Fields come in their order (`proxy.contract.record`)."""
    ends = [end for mark in (b',"sql":', b',"ran":', b',"tags":') if (end := one.line.find(mark)) > 0]
    try:
        head = _head.decode(one.line[: min(ends)] + b"}")
    except (ValueError, msgspec.MsgspecError):
        return None
    fact = Fact(leaf=one.leaf, session=one.session, statement=head.statement, at=head.at, label=Label.LONG)
    match head.type:
        case "statement.start":
            return replace(fact, kind=head.kind)
        case "statement.prepare":
            return replace(fact, kind="prepare")
        case "statement.end":
            return replace(fact, kind="execute")
        case _:
            return None


def said_in(record: AnyRecord) -> StatementStart | StatementPrepare | Ran | None:
    """What a record says that was, or was to be, executed."""
    match record:
        case StatementStart() | StatementPrepare():
            return record
        case StatementEnd():
            return record.ran
        case _:
            return None


def has_text(said: StatementStart | StatementPrepare | Ran, text: str) -> bool:
    """Whether a folded text is in it."""
    return text in searched(said.sql, _values(said.parameters))


def fold(text: str) -> str:
    """As texts are compared: character by character, whatever stands around one. The tokenizer would end at a NUL."""
    return text.casefold().replace("\0", "\ufffd")


def searched(text: str, values: str) -> str:
    """What a search for text looks into, folded."""
    return fold(f"{text}\n{values}" if values else text)


def command_of(tag: str) -> str:
    """The command in a command tag: `INSERT` of `INSERT 0 1`."""
    return " ".join(word for word in tag[:_TAG_CHARACTERS].split(" ") if not word.isdecimal())


def sort_out(
    facts: Sequence[Fact], parsed: Sequence[Parsed], people: Mapping[int, tuple[str | None, str | None]]
) -> Piece:
    """A piece of the log as it goes into the index. Statements that begin and end in it are taken in as they ended."""
    piece = Piece()
    begun: dict[tuple[int, int], list[int]] = {}
    for fact, known in zip(facts, parsed, strict=True):
        if fact.kind is not None:
            if fact.statement is not None:
                begun.setdefault((fact.session, fact.statement), []).append(len(piece.entries))
            piece.entries.append(_entry(fact, known))
            if fact.sql is not None:
                piece.texts.append((fact.leaf, searched(fact.text, fact.values)))
            for term in _terms(fact, known, people.get(fact.session, (None, None))):
                piece.terms.setdefault(term, set()).add(fact.leaf)
        if fact.end is not None:
            end = _end(fact, fact.end)
            own = begun.get((end.session, end.statement), [])
            for place in own:
                piece.entries[place] = _ended(piece.entries[place], end)
                for term in end.terms:
                    piece.terms.setdefault(term, set()).add(piece.entries[place].id)
            if not own or piece.entries[own[0]].id == fact.leaf:  # it began in an earlier piece
                piece.ends.append(end)
    return piece


def _entry(fact: Fact, known: Parsed) -> Entry:
    names: dict[str, object] = {}
    if len(known.classes) > 1:
        names["classes"] = known.classes
    if known.tables:
        names["tables"] = known.tables
    if known.functions:
        names["functions"] = known.functions
    return Entry(
        id=fact.leaf,
        session=fact.session,
        statement=fact.statement,
        kind=fact.kind or "",
        at=max(0, min(fact.at, LARGEST)),
        class_=known.classes[0] if known.classes else None,
        names=names or None,
        label=known.label,
    )


def _terms(fact: Fact, known: Parsed, who: tuple[str | None, str | None]) -> set[Term]:
    person, target = who
    terms = {("session", str(fact.session))}
    terms |= {(kind, name) for kind, name in (("person", person), ("target", target)) if name is not None}
    terms |= {("class", name) for name in known.classes}
    for name, written in known.tables:
        for part in tails(name):
            terms.add(("table", part))
            if written:
                terms.add(("written", part))
    terms |= {("function", part) for name in known.functions for part in tails(name)}
    if known.label is not None:
        terms.add(("label", known.label.value))
    return terms


def _end(fact: Fact, record: StatementEnd) -> End:
    commands = [command for tag in record.tags if (command := command_of(tag))]
    terms: set[Term] = {("class", command) for command in commands}
    if record.sqlstate is not None:
        terms |= {("sqlstate", record.sqlstate), ("sqlstate", record.sqlstate[:2])}
    terms |= {("rows", str(least)) for least in magnitudes(record.rows)}
    return End(
        session=fact.session,
        statement=record.statement,
        rows=min(record.rows, LARGEST),
        duration=max(0, min(record.duration, LARGEST)),
        sqlstate=record.sqlstate,
        terms=terms,
        class_=commands[0] if commands else None,
    )


def magnitudes(rows: int) -> list[int]:
    """The powers of ten, from 10 on, that so many rows reach."""
    return [10**digits for digits in range(1, min(len(str(max(rows, 0))), 19))]


def _ended(entry: Entry, end: End) -> Entry:
    return replace(
        entry,
        rows=end.rows,
        duration=end.duration,
        sqlstate=end.sqlstate,
        class_=entry.class_ if entry.class_ is not None else end.class_,
    )
