"""Statements and portals of the extended protocol: their names, their lives, and what is said of them."""

import struct

from tests.harness.wire import FLUSH, SYNC, bind, execute, message, parse, query
from tests.oracle.case import Script, add, case
from tests.oracle.talk import Talk


def describe(kind: str, name: str = "") -> bytes:
    """Describe a statement (S) or a portal (P)."""
    return message("D", kind.encode() + name.encode() + b"\0")


def close(kind: str, name: str = "") -> bytes:
    """Close a statement (S) or a portal (P)."""
    return message("C", kind.encode() + name.encode() + b"\0")


def raw_bind(*formats: int) -> bytes:
    """A Bind of nothing, for results in these formats."""
    return message("B", b"\0\0" + struct.pack(f"!HHH{len(formats) - 1}H", 0, 0, *formats))


def rounds(*data: tuple[bytes, ...]) -> Script:
    """Each of these with a Sync behind it, one after the other, and whether the connection lives."""

    async def script(talk: Talk) -> None:
        await talk.log_in()
        for one in data:
            talk.send(*one, SYNC)
            await talk.ready()
        await talk.alive()

    return script


A = parse("SELECT $1::int + 1", "a")
MANY = (
    "SELECT 1, 1.5::float8, 2.5::numeric, 'text', '2026-01-01'::timestamptz, ARRAY[1, 2], NULL::int, true, '{}'::jsonb"
)
TWO = "SELECT 1, 2"
FIVE = "SELECT generate_series(1, 5)"

add(
    "statement-used-again",
    "named once, bound often",
    rounds((A, bind("1", name="a"), execute()), (bind("2", name="a"), execute())),
)
add("statement-twice", "42P05", rounds((A,), (A,)))
add(
    "statement-unnamed",
    "each Parse replaces it",
    rounds((parse("SELECT 1"),), (parse("SELECT 2"), bind(), execute()), (bind(), execute())),
)
add("statement-failed", "the unnamed one is gone", rounds((parse("SELECT 1"),), (parse("SELEC"),), (bind(), execute())))
add("statement-closed", "26000 from then on", rounds((A, close("S", "a")), (bind("1", name="a"), execute())))
add("statement-unknown", "26000", rounds((bind(name="nothing"), execute())))
add("statement-of-several", "42601", rounds((parse("SELECT 1; SELECT 2"),)))
add("statement-of-nothing", "EmptyQueryResponse", rounds((parse(""), bind(), describe("P"), execute())))
add(
    "statement-of-a-long-name", "cut at 63 bytes", rounds((parse("SELECT 1", "n" * 70), bind(name="n" * 63), execute()))
)
add(
    "statement-by-sql",
    "PREPARE's names are Parse's",
    rounds((parse("PREPARE b AS SELECT 7"), bind(), execute()), (bind(name="b"), execute())),
)
add(
    "statement-deallocated",
    "by SQL",
    rounds((A,), (parse("DEALLOCATE ALL"), bind(), execute()), (bind("1", name="a"),)),
)
add("statement-discarded", "by SQL", rounds((A,), (parse("DISCARD ALL"), bind(), execute()), (bind("1", name="a"),)))
add("statement-described", "parameters and columns", rounds((A, describe("S", "a"))))
add("statement-without-columns", "NoData", rounds((parse("CREATE TEMP TABLE c ()", "c"), describe("S", "c"))))
add("statement-described-unknown", "26000", rounds((describe("S", "nothing"),)))
add("statement-of-unknown-types", "42P18", rounds((parse("SELECT $2::int"), describe("S"))))
add(
    "statement-of-given-types",
    "as Parse says",
    rounds((parse("SELECT $1", types=(23,)), describe("S"), bind("5"), execute())),
)
add(
    "statement-of-no-such-type",
    "an internal error of PostgreSQL's",
    rounds((parse("SELECT $1", types=(999_999,)), bind("5"), execute())),
)
add("statement-of-another-plan", "0A000 when its table changed", rounds(
    (parse("CREATE TEMP TABLE d (x int)"), bind(), execute(), parse("SELECT * FROM d", "d"), bind(name="d"), execute()),
    (parse("ALTER TABLE d ADD y int"), bind(), execute()),
    (bind(name="d"), execute()),
))  # fmt: skip

add(
    "portal-in-parts",
    "suspended, and finished",
    rounds((parse(FIVE), bind(), execute(limit=2), execute(limit=2), execute(limit=2), execute())),
)
add(
    "portal-of-exactly-so-many",
    "suspended, and then empty",
    rounds((parse(FIVE), bind(), execute(limit=5), execute(limit=5))),
)
add("portal-with-a-negative-limit", "no limit", rounds((parse(FIVE), bind(), execute(limit=-1))))
add(
    "portal-after-its-transaction",
    "34000",
    rounds((parse(FIVE), bind(portal="p"), execute("p", 2)), (execute("p", 2),)),
)
add("portal-twice", "42P03", rounds((parse(FIVE), bind(portal="p"), bind(portal="p"))))
add(
    "portal-closed", "34000", rounds((parse(FIVE), bind(portal="p"), execute("p", 1), close("P", "p"), execute("p", 1)))
)
add("portal-unknown", "34000", rounds((execute("nothing"),)))
add("portal-described", "its columns", rounds((parse(FIVE), bind(), describe("P"), execute())))
add("portal-described-unknown", "34000", rounds((describe("P", "nothing"),)))
add(
    "portal-of-no-rows",
    "55000 the second time",
    rounds((parse("SET work_mem = '8MB'"), bind(), execute(), execute())),
)
add(
    "portal-in-binary", "numbers, texts, times, arrays", rounds((parse(MANY), raw_bind(1, 1), describe("P"), execute()))
)
add("portal-in-two-formats", "a column each", rounds((parse(TWO), raw_bind(2, 1, 0), describe("P"), execute())))
add("portal-of-five-megabytes", "there and back", rounds((parse("SELECT $1::text"), bind("x" * 5_000_000), execute())))
add(
    "statement-in-a-failed-transaction",
    "25P02, but for its end",
    rounds(
        (parse("BEGIN"), bind(), execute(), parse("SELECT 1/0"), bind(), execute()),
        (parse("SELECT 1"),),
        (parse("ROLLBACK"), bind(), execute()),
    ),
)
add("close-of-nothing", "is fine", rounds((close("S", "nothing"), close("P", "nothing"))))


@case
async def portals_in_a_transaction(talk: Talk) -> None:
    """Two at once, over several rounds, until the commit; and a cursor of SQL's, fetched by Execute."""
    await talk.log_in()
    await talk.sql("BEGIN", "DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(10, 15)")
    talk.send(parse(FIVE, "s"), bind(name="s", portal="p"), bind(name="s", portal="q"), execute("p", 2), SYNC)
    await talk.ready()
    talk.send(execute("q", 1), execute("p", 2), execute("c", 2), SYNC)
    await talk.ready()
    await talk.sql("COMMIT")
    talk.send(execute("p", 1), SYNC, execute("c", 2), SYNC)
    await talk.ready(2)
    await talk.sql("FETCH c", "CLOSE c")


@case
async def flush(talk: Talk) -> None:
    """It brings the answers without ending the round."""
    await talk.log_in()
    talk.send(parse(FIVE), bind(), execute(limit=2), FLUSH)
    await talk.until("s")
    talk.send(execute(limit=1), FLUSH)
    await talk.until("s")
    talk.send(execute(), FLUSH)
    await talk.until("C")
    talk.send(SYNC)
    await talk.ready()


@case
async def flush_after_an_error(talk: Talk) -> None:
    """The error comes at once, nothing more until the Sync."""
    await talk.log_in()
    talk.send(parse("SELEC"), FLUSH, parse("SELECT 1"), FLUSH)
    await talk.until("E")
    talk.send(SYNC)
    await talk.ready()


@case
async def query_drops_the_unnamed(talk: Talk) -> None:
    """A simple query does away with the unnamed statement and portal."""
    await talk.log_in()
    talk.send(parse(FIVE), bind(), execute(limit=1), SYNC)
    await talk.ready()
    talk.send(query("SELECT 1"), execute(), SYNC, bind(), SYNC)
    await talk.ready(3)
