"""A tiny PostgreSQL: how a server answers both protocols, and what it ran for each statement it was asked for.

Its SQL is one word a statement: `ok`, `bad` (fails when it runs), `nonsense` (fails in Parse), `begin`, `commit`,
`rollback`, `savepoint`, `back` (ROLLBACK TO the last savepoint), `copyin`, `copyfail` (fails before it reads),
`copyout`, `deferred` (fails at the commit), `execute NAME` and `fetch NAME` (what SQL can do to names).
A text may have a comment, which tells one from another: `ok -- 7`.
"""

import struct
from dataclasses import dataclass, field

from tests.unit.proxy.wire import playbook as say
from tests.unit.proxy.wire.reference import message

NAME_BYTES = 63


@dataclass(slots=True)
class Asked:
    """A Query, Execute or FunctionCall, and what became of it."""

    kind: str
    text: str | None = None
    """What ran; None where nothing did."""
    tags: list[str] = field(default_factory=list)
    sqlstate: str | None = None
    skipped: bool = True
    """It was never looked at."""
    blamed: str | None = None
    """Skipped for this fault of a Parse, Bind or Describe before it."""


@dataclass(slots=True)
class Portal:
    """A bound statement: its rows (two, of `ok`) and the savepoint level that it was made in."""

    text: str
    level: int
    rows: int = 2


class Failed(Exception):  # noqa: N818 says what happened
    """An ErrorResponse, by its SQLSTATE."""


class Lost(Exception):  # noqa: N818 says what happened
    """The session is over."""


@dataclass(slots=True)
class Model:
    """One backend. `take` a message, and get its answer."""

    state: str = "I"
    asked: list[Asked] = field(default_factory=list)
    """Every statement that was sent, in order."""
    ran: list[str] = field(default_factory=list)
    """Every text that ran, by whatever way."""
    over: bool = False
    _answer: bytearray = field(default_factory=bytearray)
    _statements: dict[bytes, str] = field(default_factory=dict)
    _portals: dict[bytes, Portal] = field(default_factory=dict)
    _skipping: bool = False
    _deferred: bool = False
    _level: int = 0
    _copying: Asked | None = None
    _rest: list[str] = field(default_factory=list)
    """Of a Query that is in COPY: its statements behind that."""
    _runs: Asked | None = None
    """The statement that a fault is laid on: the one that runs, or the round's last at Sync."""
    _last: Asked | None = None
    """The round's last statement that was done."""
    _blame: str | None = None
    """A fault that the next statement is kept from running by."""

    def take(self, kind: bytes, body: bytes) -> bytes:
        """The answer to one message."""
        self._answer.clear()
        if kind in (b"Q", b"E", b"F"):
            self.asked.append(Asked({b"Q": "query", b"E": "execute", b"F": "function"}[kind]))
            if self._skipping:
                self.asked[-1].blamed, self._blame = self._blame, None
        if not self.over:
            self._read(kind, body)
        return bytes(self._answer)

    def _read(self, kind: bytes, body: bytes) -> None:
        extended = kind in (b"P", b"B", b"D", b"E", b"C")
        try:
            if self._copying is not None:
                extended = self._copying.kind == "execute"
                self._in_copy(kind)
            elif not self._skipping or kind == b"S":
                self._main(kind, body)
        except Failed as failed:
            self._fail(str(failed))
            if extended:
                self._skipping = True
            else:
                self._ready()
        except Lost:
            self._answer += say.error("08P01", "lost") + say.error("08P01", "lost", "FATAL")
            self.over = True

    def _main(self, kind: bytes, body: bytes) -> None:  # noqa: C901 a case for each message
        if kind in (b"Q", b"E", b"F"):
            self.asked[-1].skipped = False
            self._runs = self.asked[-1]
        elif kind != b"S":
            self._runs = None
        match kind:
            case b"Q":
                self._statements.pop(b"", None)
                self._portals.pop(b"", None)
                self._query(body[:-1].decode().split("; "))
            case b"P":
                self._parse(body)
            case b"B":
                self._bind(body)
            case b"D":
                self._describe(body)
            case b"E":
                self._execute(body)
            case b"C":
                names = self._statements if body[:1] == b"S" else self._portals
                names.pop(body[1:-1][:NAME_BYTES], None)
                self._answer += say.CLOSED
            case b"F":
                self._refuse_in_failed("function")
                self._answer += say.FUNCTION_RESULT
                self._commit_implicitly()
                self._ready()
            case b"S":
                self._skipping, self._blame, self._runs = False, None, self._last
                self._commit_implicitly()
                self._ready()

    # Simple.

    def _query(self, texts: list[str]) -> None:
        while texts:
            text = texts.pop(0)
            self._run(text, self.asked[-1])
            if self._copying is not None:
                self._rest = texts
                return
        self._commit_implicitly()
        self._ready()

    # Extended.

    def _parse(self, body: bytes) -> None:
        name, text, _ = body.split(b"\0", 2)
        sql = text.decode()
        if not name:
            self._statements.pop(b"", None)
        if sql.startswith("nonsense"):
            raise Failed("42601")
        self._refuse_in_failed(sql)
        if name and name[:NAME_BYTES] in self._statements:
            raise Failed("42P05")
        self._statements[name[:NAME_BYTES]] = sql
        self._answer += say.PARSED

    def _bind(self, body: bytes) -> None:
        portal, name, rest = body.split(b"\0", 2)
        sql = self._statements.get(name[:NAME_BYTES])
        if sql is None:
            raise Failed("26000")
        if rest[2:4] != b"\0\0":
            raise Failed("08P01")  # it takes no values
        self._refuse_in_failed(sql)
        if portal and portal[:NAME_BYTES] in self._portals:
            raise Failed("42P03")
        self._portals[portal[:NAME_BYTES]] = Portal(sql, self._level)
        self._answer += say.BOUND

    def _describe(self, body: bytes) -> None:
        names = self._statements if body[:1] == b"S" else self._portals
        if body[1:-1][:NAME_BYTES] not in names:
            raise Failed("26000")
        self._answer += say.types() + say.NO_DATA if body[:1] == b"S" else say.ROWS

    def _execute(self, body: bytes) -> None:
        name, limit = body[:-5], struct.unpack("!i", body[-4:])[0]
        portal = self._portals.get(name[:NAME_BYTES])
        if portal is None:
            raise Failed("34000")
        if portal.text.startswith("ok") and 0 < limit <= portal.rows:
            self._refuse_in_failed(portal.text)
            portal.rows -= limit
            self.asked[-1].text = portal.text
            self.ran.append(portal.text)
            self._last = self.asked[-1]
            self._answer += say.ROW * limit + say.SUSPENDED
            return
        self._run(portal.text, self.asked[-1])

    # Running.

    def _refuse_in_failed(self, text: str) -> None:
        if self.state == "E" and not text.startswith(("commit", "rollback", "back")):
            raise Failed("25P02")

    def _run(self, text: str, asked: Asked) -> None:
        asked.text = text if asked.text is None else f"{asked.text}; {text}"
        self._refuse_in_failed(text)
        self.ran.append(text)
        word, _, rest = text.partition(" ")
        match word:
            case "nonsense" | "bad":
                raise Failed("22012")
            case "begin":
                self.state = "T"
            case "commit" | "rollback":
                self._end_transaction(word)
            case "savepoint" | "back":
                self._savepoint(word)
            case "copyin" | "copyfail":
                self._answer += say.COPY_IN
                if word == "copyfail":
                    raise Failed("P0001")
                self._copying = asked
                return
            case "copyout":
                self._answer += say.COPY_OUT + say.copy_data(b"x") + say.COPY_DONE
            case "deferred":
                self._deferred = True
            case "execute" | "fetch":
                self._by_sql(word, rest.partition(" ")[0].encode())
        self._complete(asked, word)

    def _by_sql(self, word: str, name: bytes) -> None:
        if word == "execute":
            text = self._statements.get(name)
        else:
            portal = self._portals.get(name)
            text = None if portal is None else portal.text
        if not name or text is None or not text.startswith("ok"):
            raise Failed("26000")
        self.ran.append(text)

    def _complete(self, asked: Asked, word: str) -> None:
        asked.tags.append(word)
        self._last = asked
        self._answer += say.complete(word)

    def _in_copy(self, kind: bytes) -> None:
        asked = self._runs = self._copying
        assert asked is not None
        if kind in (b"d", b"S", b"H"):
            return
        self._copying = None
        if kind == b"f":
            raise Failed("57014")
        if kind != b"c":
            raise Lost
        self._complete(asked, "copyin")
        if asked.kind == "query":
            self._query_goes_on(asked)

    def _query_goes_on(self, asked: Asked) -> None:
        texts, self._rest = self._rest, []
        while texts:
            self._run(texts.pop(0), asked)
            if self._copying is not None:
                self._rest = texts
                return
        self._commit_implicitly()
        self._ready()

    # Transactions.

    def _end_transaction(self, word: str) -> None:
        fails = self._deferred and word == "commit" and self.state != "E"
        self.state, self._level, self._deferred = "I", 0, False
        self._portals.clear()
        if fails:
            raise Failed("23505")

    def _savepoint(self, word: str) -> None:
        if self.state == "I" or (word == "back" and not self._level):
            raise Failed("25P01")
        if word == "savepoint":
            self._level += 1
        else:
            self.state = "T"
            self._portals = {name: one for name, one in self._portals.items() if one.level < self._level}

    def _commit_implicitly(self) -> None:
        if self.state == "I":
            deferred, self._deferred = self._deferred, False
            if deferred:
                raise Failed("23505")
            self._portals.clear()

    def _fail(self, sqlstate: str) -> None:
        self._answer += say.error(sqlstate, "no")
        self._copying, self._rest = None, []
        if self._runs is None:
            self._blame = sqlstate
        elif self._runs.sqlstate is None:
            self._runs.sqlstate = sqlstate
        if self.state == "T":
            self.state = "E"
            self._portals = {name: one for name, one in self._portals.items() if one.level < self._level}
        elif self.state == "I":
            self._deferred = False
            self._portals.clear()

    def _ready(self) -> None:
        self._last = None
        self._answer += message(b"Z", self.state.encode())
