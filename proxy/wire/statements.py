# cython: annotation_typing=False, binding=False
"""Prepared statements and portals as the client knows them, so that an Execute can be recorded with its text.

PostgreSQL's rules (PostgreSQL, "Extended Query"): a named statement must be closed before its name is used again, so a
Parse of a known name fails and the old text stays; a portal lives until its transaction ends, and an error ends it too.
Definitions are taken when they are sent, as a pipeline relies on them, and undone when PostgreSQL refuses them.
"""

import base64
import struct

import msgspec

from proxy.contract.record import Parameter
from proxy.contract.settings import Parameters
from proxy.wire.secrets import mask
from proxy.wire.values import decode

_UINT16 = struct.Struct("!H")
_NONE, _TYPES = Parameters.NONE, Parameters.TYPES  # an enum's member costs a microsecond to look up in Python 3.11


class Text(msgspec.Struct, frozen=True, gc=False):
    """A statement's SQL as it is recorded."""

    sql: str
    sql_base64: str | None = None
    masked: bool = False


def read_text(raw: bytes) -> Text:
    """The SQL in `raw`, its secrets masked. Bytes that are not UTF-8 are kept exactly, beside a readable form."""
    try:
        sql, masked = mask(raw.decode())
    except UnicodeDecodeError:
        sql, masked = mask(raw.decode("utf-8", "backslashreplace"))
        return Text(sql, None if masked else base64.b64encode(raw).decode(), masked)
    return Text(sql, None, masked)


class Prepared(msgspec.Struct, frozen=True):
    """A prepared statement: its name, its text and the parameter types that Parse declared."""

    name: bytes
    text: Text
    types: tuple[int, ...] = ()
    shown: str | None = None
    """The name as it is recorded; None for the unnamed statement."""


class Portal(msgspec.Struct, frozen=True):
    """A bound statement."""

    name: bytes
    statement: Prepared
    parameters: list[Parameter] | None = None
    size: int = 0
    """Bytes of the Bind message."""
    round: int = 0

    @classmethod
    def unknown(cls, body: bytes) -> "Portal":
        """A portal that SQL made (DECLARE CURSOR), or none at all: the record names it."""
        name = body[: body.find(b"\0")]
        return cls(name, Prepared(name, Text(""), shown=f"portal {_shown(name)}"))


_NO_TEXT = Text("")


def _shown(name: bytes) -> str | None:
    return name.decode("utf-8", "backslashreplace") or None


Undo = tuple[bytes, Prepared | None]
"""A name, and what it meant before."""


class PreparedStatements:
    """What Parse and Bind have defined and not yet been closed."""

    __slots__ = ("_portals", "_statements", "answered", "round")

    def __init__(self) -> None:
        self._statements: dict[bytes, Prepared] = {}
        self._portals: dict[bytes, Portal] = {}
        self.round = 0
        """How many Syncs have been sent."""
        self.answered = 0
        """How many of them have been answered."""

    def define(self, prepared: Prepared) -> Undo:
        """Take a Parse; returns what `undo` needs where PostgreSQL refuses it."""
        before = self._statements.get(prepared.name)
        self._statements[prepared.name] = prepared
        return prepared.name, before

    def undo(self, undo: Undo) -> None:
        """A Parse was refused or skipped: its name means again what it meant before."""
        name, before = undo
        if before is None:
            self._statements.pop(name, None)
        else:
            self._statements[name] = before

    def get(self, name: bytes) -> Prepared:
        """The statement named `name`; one without text where only SQL's PREPARE knows it."""
        return self._statements.get(name) or Prepared(name, _NO_TEXT, shown=_shown(name))

    def type(self, prepared: Prepared, types: tuple[int, ...]) -> None:
        """PostgreSQL has told the parameters' types of `prepared`, unless its name means another one by now."""
        if self._statements.get(prepared.name) is prepared:
            self._statements[prepared.name] = Prepared(prepared.name, prepared.text, types, prepared.shown)

    def bind(self, portal: Portal) -> None:
        """Take a Bind."""
        self._portals[portal.name] = portal

    def portal(self, name: bytes) -> Portal | None:
        """The portal named `name`, if a Bind made it."""
        return self._portals.get(name)

    def close(self, kind: bytes, name: bytes) -> None:
        """Take a Close."""
        if kind == b"S":
            self._statements.pop(name, None)
        else:
            self._portals.pop(name, None)

    def ready(self, *, idle: bool) -> None:
        """A Sync was answered: where no transaction is open, its portals are gone."""
        self.answered += 1
        if idle and self._portals:
            self._portals = {name: one for name, one in self._portals.items() if one.round >= self.answered}


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
    portal_end = body.find(b"\0")
    name_end = body.find(b"\0", portal_end + 1)
    statement = prepared.get(body[portal_end + 1 : name_end])
    parameters: list[Parameter] | None = None
    if policy is not _NONE:
        try:
            parameters = _parameters(body, name_end + 1, statement.types, policy is _TYPES)
        except (IndexError, ValueError):
            parameters = [Parameter(0, None, base64.b64encode(body).decode())]
    return Portal(body[:portal_end], statement, parameters, len(body) + 5, prepared.round)


def _parameters(body: bytes, at: int, types: tuple[int, ...], typed_only: bool) -> list[Parameter] | None:  # noqa: FBT001 positional for the C call
    """Decode the values of a Bind message behind its two names. Raises IndexError or ValueError."""
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


def _uint16(body: bytes, at: int) -> int:
    return body[at] << 8 | body[at + 1]


def _int32(body: bytes, at: int) -> int:
    high = _uint16(body, at)
    return (high << 16 | _uint16(body, at + 2)) - (high >> 15 << 32)
