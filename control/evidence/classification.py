"""What a SQL text is, as far as its syntax says: which commands, which tables it reads and writes, which functions.

Pure, but for libpg_query, which crashes on some valid SQL: only the worker may import this (`control.evidence.parser`).
It knows no catalog. A table is named as it was written, folded as PostgreSQL folds names; what a view, a function, a DO
block or an EXECUTE does inside is not seen.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.message import DecodeError, Message
from postgast import PgQueryError, parse
from postgast import pg_query_pb2 as pg

from control.evidence.names import quoted
from control.evidence.parsed import MOST_NAMES, Label, Parsed
from control.evidence.tags import tag

with contextlib.suppress(ImportError, AttributeError):
    # A tree is otherwise refused at a depth of 100, which a sum of 50 numbers has. Nothing public says so.
    from google._upb import _message as upb

    upb.SetAllowOversizeProtos(True)  # noqa: FBT003 its own signature

_Tree = Any
"""A message of libpg_query's tree. Its generated classes have no types that say what follows here."""

REPLICATION: Final = re.compile(
    r"\s*(IDENTIFY_SYSTEM|BASE_BACKUP|START_REPLICATION|CREATE_REPLICATION_SLOT|ALTER_REPLICATION_SLOT"
    r"|DROP_REPLICATION_SLOT|READ_REPLICATION_SLOT|TIMELINE_HISTORY|UPLOAD_MANIFEST)\b",
    re.IGNORECASE | re.ASCII,
)
"""What a walsender takes and SQL does not have ("Streaming Replication Protocol")."""
_WRITTEN: Final = frozenset(
    {
        ("AlterObjectSchemaStmt", "relation"),
        ("AlterOwnerStmt", "relation"),
        ("AlterPolicyStmt", "table"),
        ("AlterSeqStmt", "sequence"),
        ("AlterTableStmt", "relation"),
        ("CreatePolicyStmt", "table"),
        ("CreateSeqStmt", "sequence"),
        ("CreateStmt", "relation"),
        ("CreateTrigStmt", "relation"),
        ("DeleteStmt", "relation"),
        ("IndexStmt", "relation"),
        ("InsertStmt", "relation"),
        ("IntoClause", "rel"),
        ("MergeStmt", "relation"),
        ("RefreshMatViewStmt", "relation"),
        ("RenameStmt", "relation"),
        ("RuleStmt", "relation"),
        ("TruncateStmt", "relations"),
        ("UpdateStmt", "relation"),
        ("ViewStmt", "view"),
    }
)
"""Where a table stands that the statement changes, in its rows or in what it is: the node, and its field."""
_RELATIONS: Final = frozenset(
    {
        pg.OBJECT_FOREIGN_TABLE,
        pg.OBJECT_INDEX,
        pg.OBJECT_MATVIEW,
        pg.OBJECT_SEQUENCE,
        pg.OBJECT_TABLE,
        pg.OBJECT_VIEW,
    }
)
_ON_RELATIONS: Final = frozenset({pg.OBJECT_POLICY, pg.OBJECT_RULE, pg.OBJECT_TRIGGER})
_CHANGES: Final = frozenset({"DeleteStmt", "InsertStmt", "MergeStmt", "UpdateStmt"})
_BODIES: Final = frozenset({"CreateFunctionStmt", "RuleStmt"})
"""Their inner statements are not run now."""


@dataclass(slots=True)
class _Found:
    """What has been found so far, in the order in which it was found."""

    classes: dict[str, None] = field(default_factory=dict)
    tables: dict[str, bool] = field(default_factory=dict)
    functions: dict[str, None] = field(default_factory=dict)

    def table(self, parts: Sequence[str], *, written: bool) -> None:
        name = quoted(parts)
        self.tables[name] = written or self.tables.get(name, False)


@dataclass(frozen=True, slots=True)
class _Step:
    """A node to be looked at, where it stands, and what a bare name means there."""

    node: _Tree
    place: tuple[str, str] = ("", "")
    hidden: frozenset[str] = frozenset()
    """The names of the common table expressions in force: no tables, as long as nothing qualifies them."""
    runs: bool = True
    """False in what is only explained or defined."""


def classify(sql: bytes) -> Parsed:
    """What the text is. One that is not UTF-8 is read byte by byte, which is right for all but names and values."""
    try:
        text, foreign = sql.decode(), False
    except UnicodeDecodeError:
        text, foreign = sql.decode("latin-1"), True
    if (command := REPLICATION.match(text)) is not None:
        return Parsed(classes=[command[1].upper()])
    try:
        tree = parse(text)
    except PgQueryError:
        return Parsed(label=Label.UNPARSED)
    except DecodeError:
        return Parsed(label=Label.DEEP)
    found = _Found()
    for statement in tree.stmts:
        _walk(statement.stmt, found)
    more = max(len(found.tables), len(found.functions), len(found.classes)) > MOST_NAMES
    names = _as_sent if foreign else str
    return Parsed(
        classes=list(found.classes)[:MOST_NAMES],
        tables=[(names(name), written) for name, written in found.tables.items()][:MOST_NAMES],
        functions=[names(name) for name in found.functions][:MOST_NAMES],
        label=Label.CUT if more else None,
    )


def _as_sent(name: str) -> str:
    """A name whose bytes were read as Latin-1, as records show such bytes."""
    return name.encode("latin-1").decode(errors="backslashreplace")


def _walk(root: _Tree, found: _Found) -> None:
    """Look at every node below `root`. Without recursion: the tree is as deep as whoever wrote it liked."""
    top = _inner(root)
    if (word := tag(top)) is not None:
        found.classes[word] = None
    todo = [_Step(top)]
    while todo:
        step = todo.pop()
        _look(step, found)
        todo.extend(reversed(list(_below(step, found))))


def _look(step: _Step, found: _Found) -> None:
    node, kind = step.node, step.node.DESCRIPTOR.name
    if kind == "RangeVar":
        written = step.place in _WRITTEN
        if written or node.schemaname or node.relname not in step.hidden:
            found.table((node.catalogname, node.schemaname, node.relname), written=written and step.runs)
    elif kind == "FuncCall":
        found.functions[quoted(_texts(node.funcname))] = None
    elif kind == "DropStmt":
        for one in node.objects:
            parts = _texts(_inner(one).items) if one.HasField("list") else []
            if node.remove_type in _ON_RELATIONS:
                parts = parts[:-1]  # the last one is the trigger's name
            elif node.remove_type not in _RELATIONS:
                continue
            if parts:
                found.table(parts, written=True)
    elif kind in _CHANGES and step.runs and (word := tag(node)) is not None:
        found.classes[word] = None


def _below(step: _Step, found: _Found) -> Iterator[_Step]:
    """The node's parts. The common table expressions come first, each seeing those before it."""
    node, hidden, runs = step.node, step.hidden, step.runs
    kind = node.DESCRIPTOR.name
    if kind == "CopyStmt":
        yield from _copied(step, found)
        return
    if kind in _BODIES:
        runs = False
    elif kind == "ExplainStmt":
        runs = runs and any(_inner(one).defname == "analyze" for one in node.options)
        if runs and (word := tag(_inner(node.query))) is not None:
            found.classes[word] = None
    if kind != "WithClause" and "with_clause" in node.DESCRIPTOR.fields_by_name and node.HasField("with_clause"):
        inside, hidden = _ctes(node.with_clause, hidden, runs=runs)
        yield from inside
    for name, child in _children(node):
        if name != "with_clause":
            yield _Step(child, (kind, name), hidden, runs)


def _copied(step: _Step, found: _Found) -> Iterator[_Step]:
    node = step.node
    if node.HasField("relation"):
        relation = node.relation
        names = (relation.catalogname, relation.schemaname, relation.relname)
        found.table(names, written=node.is_from and step.runs)
    for name, child in _children(node):
        if name != "relation":
            yield _Step(child, ("CopyStmt", name), step.hidden, step.runs)


def _ctes(clause: _Tree, hidden: frozenset[str], *, runs: bool) -> tuple[list[_Step], frozenset[str]]:
    """The expressions of a WITH, and the names that are hidden behind it ("WITH Queries")."""
    expressions = [_inner(one) for one in clause.ctes]
    if clause.recursive:
        hidden |= {one.ctename for one in expressions}
    steps = []
    for one in expressions:
        steps.append(_Step(_inner(one.ctequery), ("CommonTableExpr", "ctequery"), hidden, runs))
        hidden |= {one.ctename}
    return steps, hidden


def _children(node: _Tree) -> Iterator[tuple[str, _Tree]]:
    for descriptor, value in node.ListFields():
        if descriptor.message_type is None:
            continue
        for one in (value,) if isinstance(value, Message) else value:
            inner = _inner(one)
            if inner is not None:
                yield descriptor.name, inner


def _inner(node: _Tree) -> _Tree:
    """What is in a Node, which has one of all kinds of nodes in it; an empty one is None."""
    if node.DESCRIPTOR.name != "Node":
        return node
    kind = node.WhichOneof("node")
    return None if kind is None else getattr(node, kind)


def _texts(nodes: Any) -> list[str]:  # noqa: ANN401 a list of the tree's
    return [one.string.sval for one in nodes if one.HasField("string")]
