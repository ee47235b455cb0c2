"""The proxy's own questions to PostgreSQL: one statement at a time, on a login of its own, answered as text.

Owns an open connection and the answer that is due on it. How the login is authenticated is `proxy.upstream`'s, for it
as for sessions; what is asked is others' (`proxy.backends`). The server is trusted in nothing: each message, each
answer and each wait has a bound, and one that breaks the protocol loses the connection.
https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY
"""

import asyncio
import struct
from collections.abc import Callable, Iterable
from typing import TypeAlias

from proxy.errors import ProtocolViolation
from proxy.login import Connected
from proxy.wire import messages

MAX_MESSAGE_BYTES = 65_536
MAX_ANSWER_BYTES = 4_194_304
"""The keeper's longest, on 10,000 backends at once, has a third of that."""
SETTINGS = ((b"client_encoding", b"UTF8"), (b"DateStyle", b"ISO"), (b"TimeZone", b"UTC"))
"""What a login must be started with, so that texts mean what we take them for. It outdoes the role's own settings."""

_HEADER_BYTES = 5
_ANY_TIME = b"NSA"
"""Notices, parameters and notifications come when they like."""
_PASSED_OVER = b"2CI"
"""Messages of a statement that tell us nothing: bound, complete, empty."""

Row: TypeAlias = tuple[str | None, ...]


class QueryError(Exception):
    """PostgreSQL refused a statement. The connection is as good as before."""

    def __init__(self, sqlstate: str, text: str) -> None:
        super().__init__(text)
        self.sqlstate = sqlstate


class LostError(Exception):
    """The connection is gone, or is not to be trusted any more."""


class Connection:
    """A connection that is logged in. One question at a time."""

    def __init__(self, connected: Connected, *, on_end: Callable[[], None]) -> None:
        """`on_end` is called when the connection is lost, whatever the cause. Start the login with SETTINGS."""
        self.pid = connected.pid
        """Of the backend behind it."""
        self.lost: str | None = None
        """Why the connection is gone, once it is."""
        self._leg = connected.leg
        self._on_end = on_end
        self._inbox = bytearray()
        self._prepared: dict[str, bytes] = {}
        """Statements that the server has parsed, by their SQL: planning one costs as much as running it."""
        self._sql = ""
        self._answer: asyncio.Future[list[Row]] | None = None
        self._received = 0
        self._rows: list[Row] = []
        self._error: QueryError | None = None
        self._leg.relay_to(self._take, self._ended, self._lose)

    async def fetch(self, sql: str, *values: str | None, timeout_s: float) -> list[Row]:
        """The rows that `sql` gives, with `values` for $1, $2 and so on. Raises QueryError, LostError.

        The statement is kept prepared, so let its text be one of few.
        No answer in time is a lost connection, and so is a caller that is cancelled: what came late would be taken for
        the next one's.
        """
        assert self._answer is None, "one question at a time"
        if self.lost is not None:
            raise LostError(self.lost)
        self._sql, self._received, self._rows, self._error = sql, 0, [], None
        self._answer = asyncio.get_running_loop().create_future()
        self._leg.write(self._ask(sql, values))
        try:
            async with asyncio.timeout(timeout_s):
                return await self._answer
        except TimeoutError as error:
            self._lose(LostError(f"no answer within {timeout_s:g} s"))
            raise LostError(self.lost) from error
        except asyncio.CancelledError:
            self._lose(LostError("the question was given up"))
            raise
        finally:
            self._answer = None

    def _ask(self, sql: str, values: tuple[str | None, ...]) -> bytes:
        """Parse if need be, then Bind and Execute, all of it text, and Sync."""
        known = self._prepared.get(sql)
        name = known or self._name()
        parse = b"" if known else message(b"P", b"%b\0%b\0\0\0" % (name, sql.encode()))
        parameters = b"".join(_value(value) for value in values)
        bound = b"\0%b\0%b%b\0\0" % (name, struct.pack("!hh", 0, len(values)), parameters)
        return parse + message(b"B", bound) + message(b"E", b"\0\0\0\0\0") + messages.SYNC

    def _name(self) -> bytes:
        return b"curfew_%d" % len(self._prepared)

    def close(self) -> None:
        """Let go of the connection."""
        self._lose(LostError("closed"))

    # What the leg calls.

    def _take(self, data: bytes) -> None:
        """Raises for whatever PostgreSQL would not say: the leg hands that to `_lose`."""
        self._inbox += data
        self._received += len(data)
        if self._answer is not None and self._received > MAX_ANSWER_BYTES:
            raise ProtocolViolation(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        while self.lost is None and len(self._inbox) >= _HEADER_BYTES:
            kind, length = struct.unpack_from("!Bi", self._inbox)
            if not 4 <= length <= MAX_MESSAGE_BYTES:  # noqa: PLR2004 the length word counts itself
                raise ProtocolViolation(f"message {kind} of {length} bytes")
            if len(self._inbox) < 1 + length:
                return
            body = bytes(self._inbox[_HEADER_BYTES : 1 + length])
            del self._inbox[: 1 + length]
            self._hear(kind, body)

    def _hear(self, kind: int, body: bytes) -> None:
        if kind in _ANY_TIME:
            return
        if kind == ord("E"):
            fields = messages.parse_error(body)
            self._error = QueryError(fields.get("C", ""), messages.sanitise(fields.get("M", ""))[:1_000])
        elif self._answer is None or self._answer.done():
            raise ProtocolViolation(f"message {kind} that nobody asked for")
        elif kind == ord("1"):
            self._prepared[self._sql] = self._name()
        elif kind == ord("D"):
            self._rows.append(row(body))
        elif kind == ord("Z"):
            if self._error is not None:
                self._answer.set_exception(self._error)
            else:
                self._answer.set_result(self._rows)
        elif kind not in _PASSED_OVER:
            raise ProtocolViolation(f"unexpected message {kind}")

    def _ended(self) -> None:
        self._lose(LostError("the server closed the connection"))

    def _lose(self, error: Exception) -> None:
        """Give the connection up; the first cause counts, and before it what the server said at last."""
        if self.lost is not None:
            return
        self.lost = f"{self._error}; {error}" if self._error is not None else str(error)
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(LostError(self.lost))
        self._leg.transport.abort()
        self._on_end()


def array(values: Iterable[object]) -> str:
    """An array's text, each of its elements as `str` has it and quoted, None as NULL.

    https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
    """
    return "{" + ",".join("NULL" if value is None else _quoted(str(value)) for value in values) + "}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def ask_once(sql: str, values: Iterable[str]) -> bytes:
    """The messages that run `sql` once, answered as text, and leave nothing behind: no statement, named or unnamed."""
    given = [_value(value) for value in values]
    bound = b"\0\0%b%b\0\0" % (struct.pack("!hh", 0, len(given)), b"".join(given))
    parse, bind = message(b"P", b"\0%b\0\0\0" % sql.encode()), message(b"B", bound)
    return parse + bind + message(b"E", b"\0\0\0\0\0") + message(b"C", b"S\0") + messages.SYNC


def message(kind: bytes, body: bytes) -> bytes:
    """The message, with its length."""
    return kind + struct.pack("!i", len(body) + 4) + body


def _value(value: str | None) -> bytes:
    if value is None:
        return struct.pack("!i", -1)
    encoded = value.encode()
    return struct.pack("!i", len(encoded)) + encoded


def row(body: bytes) -> Row:
    """A DataRow's columns. Raises what it raises for one that is malformed."""
    (count,), at = struct.unpack_from("!H", body), 2
    columns: list[str | None] = []
    for _ in range(count):
        (length,) = struct.unpack_from("!i", body, at)
        at += 4
        if not -1 <= length <= len(body) - at:
            raise ProtocolViolation(f"a column of {length} bytes")
        columns.append(None if length < 0 else body[at : at + length].decode())
        at += max(length, 0)
    if at != len(body):
        raise ProtocolViolation("a row that is longer than its columns")
    return tuple(columns)
