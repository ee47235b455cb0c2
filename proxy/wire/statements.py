# cython: annotation_typing=False, binding=False
"""Prepared statements and portals as the client knows them, so that an Execute can be recorded with its text.

PostgreSQL's rules (PostgreSQL, "Extended Query"): a named statement must be closed before its name is used again, so a
Parse of a known name fails and the old text stays; a portal lives until its transaction ends, and one that was made
before a savepoint outlives the errors behind it. So what a name means is taken when it is sent, as a pipeline relies on
it, and settled when PostgreSQL has answered: a refused or skipped Parse, Bind or Close has changed nothing.

SQL can give a name another meaning (DEALLOCATE, PREPARE, CLOSE, DECLARE); those are statements in the journal.
"""

import base64
import struct
from collections import deque

from proxy.contract.record import Parameter, Ran, StatementPrepare, TransactionState
from proxy.contract.settings import Parameters
from proxy.wire.functions import ARGUMENTS, SET_CONFIG
from proxy.wire.secret_values import Bound, mask_values
from proxy.wire.secrets import hide, mask
from proxy.wire.steps import Kind, Owed, Step, as_json, start_of
from proxy.wire.values import decode

_UINT16 = struct.Struct("!H")
_NAME_BYTES = 63
"""PostgreSQL looks names up by that many bytes (NAMEDATALEN, and HASH_STRINGS of its hash tables)."""
_SECRETS_KEPT = 100
_NONE, _TYPES = Parameters.NONE, Parameters.TYPES  # an enum's member costs a microsecond to look up in Python 3.11


class Text:
    """A statement's SQL as it is recorded."""

    __slots__ = ("bound", "fields", "masked", "recorded", "secrets", "sql", "sql_base64")

    def __init__(
        self,
        sql: str,
        sql_base64: str | None = None,
        secrets: tuple[str, ...] = (),
        bound: tuple[Bound, ...] = (),
    ) -> None:
        self.sql = sql
        self.sql_base64 = sql_base64
        self.secrets = secrets
        """What was masked in `sql`. Never recorded."""
        self.bound = bound
        """Which of its parameters are secrets."""
        self.masked = masked = bool(secrets)
        fields = f',"sql":{as_json(sql)}'
        if sql_base64 is not None:
            fields += f',"sql_base64":"{sql_base64}"'
        if masked:
            fields += ',"masked":true'
        self.fields = fields
        """These three, as they stand in a line."""
        self.recorded = False
        """A record has it, or will before anything goes on: a `statement.start`, or a `statement.prepare`."""


def read_text(raw: bytes) -> Text:
    """The SQL in `raw`, its secrets masked. Bytes that are not UTF-8 are kept exactly, beside a readable form."""
    try:
        sql, secrets, bound = mask(raw.decode())
    except UnicodeDecodeError:
        sql, secrets, bound = mask(raw.decode("utf-8", "backslashreplace"))
        return Text(sql, None if secrets else base64.b64encode(raw).decode(), secrets, bound)
    return Text(sql, None, secrets, bound)


class Prepared:
    """A prepared statement: its name, its text and the parameter types that Parse declared."""

    __slots__ = ("name", "named", "shown", "text", "types")

    def __init__(self, name: bytes, text: Text, types: tuple[int, ...] = (), shown: str | None = None) -> None:
        self.name = name
        self.text = text
        self.types = types
        self.shown = shown
        """The name as it is recorded; None for the unnamed statement."""
        self.named = "" if shown is None else f',"name":{as_json(shown)}'
        """That, as it stands in a line."""

    def record(self) -> StatementPrepare:
        """What the journal says of its Parse."""
        text = self.text
        text.recorded = True
        return StatementPrepare(sql=text.sql, sql_base64=text.sql_base64, masked=text.masked, name=self.shown)


class Portal:
    """A bound statement."""

    __slots__ = ("begun", "name", "parameters", "size", "source", "statement")

    def __init__(
        self,
        name: bytes,
        statement: Prepared,
        parameters: list[Parameter] | None = None,
        size: int = 0,
        source: "Name | None" = None,
    ) -> None:
        self.name = name
        self.statement = statement
        self.parameters = parameters
        self.size = size
        """Bytes of the Bind message."""
        self.source = source
        """The statement's name, where Parse knows it."""
        self.begun = False
        """An Execute of it was sent: the next one goes on where that one stops."""

    def start(self, step: Step, state: TransactionState, transaction: int) -> str:
        """What the journal says of its Execute, which is `step`."""
        text, named = self.statement.text.fields, self.statement.named
        values = "" if self.parameters is None else f',"parameters":{as_json(self.parameters)}'
        continued, self.begun = ',"continued":true' if self.begun else "", True
        return start_of(step, "execute", f"{text}{values}{named}{continued}", state, transaction)

    def ran(self) -> Ran:
        """What the journal says of its Execute where that ran something else than was thought."""
        text = self.statement.text
        return Ran(
            sql=text.sql,
            sql_base64=text.sql_base64,
            masked=text.masked,
            name=self.statement.shown,
            parameters=self.parameters,
        )

    def record(self) -> StatementPrepare:
        """What the journal says of a Bind that no Execute follows."""
        record = self.statement.record()
        record.portal, record.parameters = _readable(self.name), self.parameters
        return record


def unknown_portal(body: bytes) -> Portal:
    """A portal that SQL made (DECLARE CURSOR), or none at all: the record names it."""
    name = body[: body.find(b"\0")]
    return Portal(name, Prepared(name, _NO_TEXT, shown=f"portal {_shown(name)}"))


_NO_TEXT = Text("")
_UNNAMED = b""


def _readable(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _shown(name: bytes) -> str | None:
    return _readable(name) or None


class Name(Owed):
    """What a name means: a statement, a portal, or None for nothing. In the queue of steps: a Bind or Close of it."""

    __slots__ = ("asked", "key", "meaning")

    def __init__(self, key: bytes) -> None:
        self.kind = Kind.EXTENDED
        self.statement = 0
        self.key = key
        self.asked: deque[Prepared | Portal | None] = deque()
        """What it was said to mean and PostgreSQL has not answered yet, the oldest first; None for a Close."""
        self.meaning: Prepared | Portal | None = None
        """As far as PostgreSQL has answered."""

    def ran(self) -> Ran:
        """What an Execute of this portal has run, now that it is answered."""
        true = self.meaning
        return (true if isinstance(true, Portal) else unknown_portal(self.key + b"\0")).ran()


class PreparedStatements:
    """What Parse and Bind have defined and not yet been closed."""

    __slots__ = ("_portals", "_secrets", "_statements", "_unnamed")

    def __init__(self) -> None:
        self._statements: dict[bytes, Name] = {}
        self._portals: dict[bytes, Name] = {}
        self._unnamed = Name(b"")
        """The unnamed portal, which nearly all are."""
        self._secrets: deque[str] | None = None
        """What was masked in the session's texts, the latest of it: PostgreSQL's errors can quote it."""

    def read_query(self, sql: bytes) -> Text:
        """The text of a Query."""
        text = read_text(sql)
        if text.masked:
            self.keep(text.secrets)
        return text

    def read_parse(self, body: bytes) -> Prepared:
        """The statement that a Parse message defines."""
        prepared = read_parse(body)
        if prepared.text.masked:
            self.keep(prepared.text.secrets)
        return prepared

    def read_call(self, body: bytes, policy: Parameters) -> list[Parameter] | None:
        """The arguments of a FunctionCall; where they cannot be read, the whole message as one."""
        if policy is _NONE:
            return None
        function = int.from_bytes(body[:4])
        try:
            values = _parameters(body, 4, ARGUMENTS.get(function, ()), policy is _TYPES)
        except (IndexError, ValueError):
            return [Parameter(0, None, base64.b64encode(body).decode())]
        if function == SET_CONFIG and values is not None:
            values, secrets = mask_values(values, (Bound(2, 1),))
            self.keep(secrets)
        return values

    def keep(self, secrets: tuple[str, ...]) -> None:
        """Have these hidden where PostgreSQL's errors quote them."""
        if self._secrets is None:
            self._secrets = deque(maxlen=_SECRETS_KEPT)
        self._secrets.extend(secrets)

    def without_secrets(self, fields: dict[str, str]) -> dict[str, str]:
        """An error's fields as they may be recorded."""
        if self._secrets is None:
            return fields
        return {letter: hide(text, self._secrets) for letter, text in fields.items()}

    def define(self, prepared: Prepared) -> Name:
        """Take a Parse."""
        return _ask(self._statements, prepared.name, prepared)

    def bind(self, portal: Portal) -> Name:
        """Take a Bind. An Execute shows its text, or a record of its own, before it goes on."""
        portal.statement.text.recorded = True
        if portal.name:
            return _ask(self._portals, portal.name, portal)
        self._unnamed.asked.append(portal)
        return self._unnamed

    def close(self, kind: bytes, name: bytes) -> Name | None:
        """Take a Close; None where the name meant nothing."""
        if not name and kind != b"S":
            self._unnamed.asked.append(None)
            return self._unnamed
        names = self._statements if kind == b"S" else self._portals
        return _ask(names, name, None) if name[:_NAME_BYTES] in names else None

    def get(self, name: bytes) -> Prepared:
        """The statement named `name`; one without text where only SQL's PREPARE knows it."""
        known = meaning(self.name(name))
        return known if isinstance(known, Prepared) else _by_sql(name)

    def replaced(self, kind: bytes, name: bytes) -> list[StatementPrepare]:
        """What is to be recorded before a Parse or Close of this name: its statement, while no record has shown that.

        Where the Parse or Close is skipped, the next Bind is of the old text.
        """
        known = meaning(self.name(name)) if kind == b"S" else None
        return [known.record()] if isinstance(known, Prepared) and not known.text.recorded else []

    def name(self, name: bytes) -> Name | None:
        """The name of this statement, if Parse gave it one."""
        return self._statements.get(name[:_NAME_BYTES])

    def portal(self, name: bytes) -> Name | None:
        """The name of this portal, if a Bind gave it one."""
        return self._portals.get(name[:_NAME_BYTES]) if name else self._unnamed

    def settle(self, name: Name) -> None:
        """PostgreSQL has done what was asked of `name` first."""
        asked = name.asked.popleft()
        if isinstance(asked, Portal):
            asked = _as_it_is(asked)
        name.meaning = asked
        if asked is None:
            self.forget(name)

    def forget(self, name: Name) -> None:
        """Drop the name if it means nothing any more."""
        if name.meaning is None and not name.asked:
            for names in (self._statements, self._portals):
                if names.get(name.key) is name:
                    del names[name.key]

    def type(self, prepared: Prepared, types: tuple[int, ...]) -> None:
        """PostgreSQL has told the parameters' types of `prepared`, unless its name means another one by now."""
        name = self._statements.get(prepared.name[:_NAME_BYTES])
        if name is not None and name.meaning is prepared:
            name.meaning = Prepared(prepared.name, prepared.text, types, prepared.shown)

    def idle(self) -> None:
        """No transaction is open: the portals that PostgreSQL has made are gone."""
        self._unnamed.meaning = None
        portals = self._portals
        if len(portals) == 1 and _UNNAMED in portals:  # What nearly every client leaves behind: it is soon back.
            portals[_UNNAMED].meaning = None
            return
        for name in list(portals.values()):
            name.meaning = None
            if not name.asked:
                del portals[name.key]


def _ask(names: dict[bytes, Name], text: bytes, meaning: Prepared | Portal | None) -> Name:
    key = text[:_NAME_BYTES]
    name = names.get(key)
    if name is None:
        name = names[key] = Name(key)
    name.asked.append(meaning)
    return name


def _by_sql(name: bytes) -> Prepared:
    return Prepared(name, _NO_TEXT, shown=_shown(name))


def _as_it_is(portal: Portal) -> Portal:
    """The portal, now that all before its Bind is answered: of the statement that its name meant to PostgreSQL."""
    true = None if portal.source is None else portal.source.meaning
    thought = portal.statement
    if true is thought:
        return portal
    if not isinstance(true, Prepared):
        true = _by_sql(thought.name)
    if true.text is thought.text:
        return portal
    other = Portal(portal.name, true, portal.parameters, portal.size, portal.source)
    other.begun = portal.begun
    return other


def meaning(name: Name | None) -> Prepared | Portal | None:
    """What `name` means where PostgreSQL takes all that was asked."""
    if name is None:
        return None
    return name.asked[-1] if name.asked else name.meaning


def end_of_name(body: bytes, at: int) -> int:
    """Where the NUL is that ends the name at `at`, -1 where there is none. Most are short: a loop in C finds it."""
    for index in range(at, min(at + _NAME_BYTES, len(body))):
        if not body[index]:
            return index
    return body.find(b"\0", at)


def read_parse(body: bytes) -> Prepared:
    """The statement that a Parse message defines."""
    name, _, rest = body.partition(b"\0")
    sql, _, types = rest.partition(b"\0")
    return Prepared(name, read_text(sql), read_types(types), _shown(name))


def read_types(body: bytes) -> tuple[int, ...]:
    """The type OIDs at the end of Parse, or in ParameterDescription; none where they do not add up."""
    count = _UINT16.unpack_from(body)[0] if len(body) >= _UINT16.size else 0
    fits = len(body) == _UINT16.size + 4 * count
    return struct.unpack_from(f"!{count}I", body, _UINT16.size) if fits else ()


def read_bind(body: bytes, prepared: PreparedStatements, policy: Parameters) -> Portal:
    """The portal that a Bind message makes. One that cannot be read has the whole message as its parameter."""
    portal_end = end_of_name(body, 0)
    name_end = end_of_name(body, portal_end + 1)
    name = body[portal_end + 1 : name_end]
    source = prepared.name(name)
    known = meaning(source)
    statement = known if isinstance(known, Prepared) else _by_sql(name)
    parameters: list[Parameter] | None = None
    if policy is not _NONE:
        try:
            parameters = _parameters(body, name_end + 1, statement.types, policy is _TYPES)
        except (IndexError, ValueError):
            parameters = [Parameter(0, None, base64.b64encode(body).decode())]
        if statement.text.bound and parameters is not None:
            parameters, secrets = mask_values(parameters, statement.text.bound)
            prepared.keep(secrets)
    return Portal(body[:portal_end] if portal_end else _UNNAMED, statement, parameters, len(body) + 5, source)


def _parameters(body: bytes, at: int, types: tuple[int, ...], typed_only: bool) -> list[Parameter] | None:  # noqa: FBT001 positional for the C call
    """What a Bind has behind its names, and a FunctionCall behind its number. May raise IndexError or ValueError."""
    format_count = _uint16(body, at)
    formats = [_uint16(body, at + 2 + 2 * index) for index in range(format_count)]
    at += 2 + 2 * format_count
    count = _uint16(body, at)
    at += 2
    if not count:
        return None
    if format_count not in (0, 1, count):
        raise ValueError("as many formats as values, one, or none")
    if format_count != count:
        formats = (formats or [0]) * count
    if len(types) < count:
        types += (0,) * (count - len(types))
    values = []
    for index in range(count):
        size = _int32(body, at)
        at += 4
        raw = None
        if size >= 0:
            raw = body[at : at + size]
            at += size
        if size < -1 or at > len(body):
            raise ValueError("a value's length")
        if typed_only:
            values.append(Parameter(types[index], withheld=True))
        else:
            values.append(decode(types[index], formats[index], raw))
    return values


def read_count(body: bytes, at: int) -> int:
    """The int32 at `at`, 0 where the body is not just that long."""
    return _int32(body, at) if len(body) == at + 4 else 0


def _uint16(body: bytes, at: int) -> int:
    return body[at] << 8 | body[at + 1]


def _int32(body: bytes, at: int) -> int:
    high = _uint16(body, at)
    return (high << 16 | _uint16(body, at + 2)) - (high >> 15 << 32)
