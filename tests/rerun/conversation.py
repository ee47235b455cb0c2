"""A random conversation in PostgreSQL's protocol: what real clients do, and what none does, from a seed.

Several sessions take turns, a whole turn at a time, so that what they do to each other has one order. Nothing asks for
the time or for chance: what a database makes up itself is another thing the second time.
"""

import struct
from collections.abc import Callable
from contextlib import AsyncExitStack
from random import Random

from tests.harness.proxy import Proxy
from tests.harness.wire import Wire, execute, message, parse, query

SCHEMA = """
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE TABLE item (id int PRIMARY KEY, owner int NOT NULL, n numeric, t text, b bytea, at timestamptz, tags text[],
                   f float8, m mood, UNIQUE (owner, t) DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE entry (id bigserial PRIMARY KEY, who text DEFAULT current_setting('curfew.person'), what text);
"""
SYNC, FLUSH = message("S"), message("H")
ZONES = ("UTC", "Asia/Kathmandu", "America/St_Johns")
STYLES = ("ISO, MDY", "SQL, DMY", "German")
INT8, FLOAT8, TEXT, BYTEA = 20, 701, 25, 17


class Person:
    """One session's side of it."""

    def __init__(self, wire: Wire, number: int, random: Random) -> None:
        self._wire, self._number, self._random = wire, number, random
        self._rows = 0

    async def turn(self) -> None:
        """Say something, and hear all of the answer."""
        saying = self._random.choice(
            [self._query, self._query, self._transaction, self._pipeline, self._pipeline, self._prepared, self._portal]
        )
        ends = saying()
        for _ in range(ends):
            await self._wire.until("Z")

    def _send(self, *messages: bytes) -> int:
        self._wire.send(b"".join(messages))
        return 1

    def _query(self) -> int:
        parts = [self._statement() for _ in range(self._random.choice([1, 1, 1, 2, 3]))]
        return self._send(query("; ".join(parts)))

    def _transaction(self) -> int:
        words = ("BEGIN", "BEGIN", "COMMIT", "COMMIT", "ROLLBACK", "SAVEPOINT s", "ROLLBACK TO s", "DISCARD ALL", "")
        more = (f"SET TimeZone = '{self._random.choice(ZONES)}'", f"SET DateStyle = '{self._random.choice(STYLES)}'")
        return self._send(query(self._random.choice(words + more)))

    def _pipeline(self) -> int:
        """Some statements and one Sync; sometimes a query before it, which has an answer of its own."""
        parts = [self._bound() for _ in range(self._random.randint(1, 5))]
        if self._random.random() < 0.2:
            word = self._random.choice(["BEGIN", "COMMIT", "ROLLBACK"])
            parts.insert(self._random.randrange(len(parts) + 1), parse(word) + _bind() + execute())
        if self._random.random() < 0.1:
            parts.append(parse("SELECT 1 / $1", types=(INT8,)) + _bind((1, bytes(8))) + execute())
        return self._send(*parts, SYNC)

    def _prepared(self) -> int:
        """A name that may be taken, and may be closed first."""
        name = self._random.choice(["p1", "p2", "naïve"])
        close = self._random.choice([b"", message("C", b"S" + name.encode() + b"\0")])
        text = self._random.choice(["SELECT count(*) FROM item WHERE id > $1", "SELECT $1::int8 + 1", "nonsense"])
        define = parse(text, name, (INT8,)) + self._random.choice([b"", SYNC])
        rounds = 2 if define.endswith(SYNC) else 1
        self._send(close, define, _bind((0, b"7"), name=name), execute(), SYNC)
        return rounds

    def _portal(self) -> int:
        """A portal taken in parts, in an explicit transaction or not; or one that SQL declares."""
        portal = self._random.choice(["", "c_1"])
        if self._random.random() < 0.3:
            self._send(query("BEGIN; DECLARE c CURSOR FOR SELECT * FROM item ORDER BY id"), execute("c", 2), SYNC)
            return 2
        made = parse("INSERT INTO entry (what) SELECT g FROM generate_series(1, 5) g RETURNING id")
        parts = [execute(portal, self._random.choice([0, 2])) for _ in range(self._random.randint(1, 4))]
        return self._send(made, _bind(portal=portal), *parts, SYNC)

    def _statement(self) -> str:
        own = f"owner = {self._number}"
        kinds: list[Callable[[], str]] = [
            lambda: f"INSERT INTO item (id, owner, t) VALUES ({self._new()}, {self._number}, {self._text()})",
            lambda: f"INSERT INTO item (id, owner, t) VALUES ({self._old()}, {self._number}, {self._text()})",
            lambda: f"UPDATE item SET n = coalesce(n, 0) + {self._random.randint(-9, 9)} WHERE {own}",
            lambda: f"DELETE FROM item WHERE id = {self._old()}",
            lambda: f"INSERT INTO entry (what) VALUES ({self._text()})",
            lambda: "SELECT * FROM item ORDER BY id LIMIT 3",
            lambda: "COPY (SELECT id, t FROM item ORDER BY id LIMIT 5) TO STDOUT",
            lambda: f"CREATE TABLE t{self._number}_{self._new()} AS SELECT {self._number} AS i",
            lambda: "SELECT 1 / (SELECT count(*) FROM item WHERE false)",
            lambda: "SELEC",
            lambda: f"SELECT id FROM item WHERE at < '2026-0{self._random.randint(1, 9)}-02 03:04'",
            lambda: "-- $1\nSELECT '$2'",
        ]
        return self._random.choice(kinds)()

    def _bound(self) -> bytes:
        """Values as text and as binary, with their types and without."""
        number, amount = self._new(), self._random.uniform(-1e6, 1e6)
        kinds = [
            lambda: (
                parse("INSERT INTO item (id, owner, n, t) VALUES ($1, $2, $3, $4)")
                + _bind(
                    (0, str(number).encode()),
                    (1, struct.pack("!i", self._number)),
                    (0, f"{amount:.3f}".encode()),
                    (0, self._random.choice(["a", "ünï", "'", "\\", str(number)]).encode()),
                )
            ),
            lambda: (
                parse("UPDATE item SET f = $1, b = $2, at = $3, tags = $4, m = $5 WHERE id = $6", types=(FLOAT8, BYTEA))
                + _bind(
                    (1, struct.pack("!d", amount)),
                    (1, self._random.randbytes(5)),
                    (0, b"2026-03-04 05:06"),
                    (0, b'{a,NULL,"b c"}'),
                    (0, self._random.choice([b"sad", b"glad"])),
                    (0, str(self._old()).encode()),
                )
            ),
            lambda: parse("INSERT INTO entry (what) VALUES ($1)", types=(TEXT,)) + _bind((0, None)),
            lambda: parse("SELECT $1::mood, $2::bytea") + _bind((1, b"glad"), (1, b"\0\xff")),
            lambda: parse(self._statement()) + _bind(),
        ]
        return self._random.choice(kinds)() + execute()

    def _new(self) -> int:
        self._rows += 1
        return self._number * 10_000 + self._rows

    def _old(self) -> int:
        return self._number * 10_000 + self._random.randint(1, max(self._rows, 1))

    def _text(self) -> str:
        return self._random.choice(["'a'", "'it''s'", "E'\\n'", "$$$1$$", "'ü'", f"'{self._rows}'", "NULL"])

    async def leave(self) -> None:
        """End the session, wherever it is."""
        if self._random.random() < 0.5:
            self._wire.send(message("X"))
            await self._wire.rest()
        else:
            self._wire.cut()


def _bind(*values: tuple[int, bytes | None], name: str = "", portal: str = "") -> bytes:
    """Bind, each value in a format of its own."""
    formats = struct.pack(f"!H{len(values)}H", len(values), *(form for form, _ in values))
    sized = [struct.pack("!i", -1) if raw is None else struct.pack("!i", len(raw)) + raw for _, raw in values]
    body = formats + struct.pack("!H", len(values)) + b"".join(sized) + b"\0\0"
    return message("B", portal.encode() + b"\0" + name.encode() + b"\0" + body)


async def talk(proxy: Proxy, database: str, *, seed: int, people: int, turns: int) -> None:
    """The whole conversation."""
    random = Random(seed)
    async with AsyncExitStack() as stack:
        talking = []
        for number in range(people):
            asked = proxy.wire(database=database, TimeZone=random.choice(ZONES), DateStyle=random.choice(STYLES))
            wire = await stack.enter_async_context(asked)
            talking.append(Person(wire, number, random))
        for _ in range(turns):
            await random.choice(talking).turn()
        for person in talking:
            await person.leave()
