"""Pipelines: errors in them, what is skipped, and how Sync divides them."""

from tests.harness.wire import FLUSH, SYNC, TERMINATE, bind, execute, message, one_by_one, parse, query
from tests.oracle.case import Script, add, case
from tests.oracle.talk import Talk


def pipeline(ready: int, *data: bytes) -> Script:
    """All of it at once; so many ReadyForQuery come. And whether the connection lives."""

    async def script(talk: Talk) -> None:
        await talk.log_in()
        talk.send(*data)
        await talk.ready(ready)
        await talk.alive()

    return script


ONE, FAIL, TWO = one_by_one("SELECT 1"), one_by_one("SELECT 1/0"), one_by_one("SELECT 2")
BEGIN, COMMIT = one_by_one("BEGIN"), one_by_one("COMMIT")
MAKE, SEE = one_by_one("CREATE TEMP TABLE made ()"), one_by_one("SELECT count(*) FROM made")


def breaking(name: str) -> tuple[str, str]:
    """Two statements that break a rule which counts in the end. No temporary table: its schema is in the error."""
    return (
        f"CREATE TABLE {name} (x int UNIQUE DEFERRABLE INITIALLY DEFERRED)",
        f"INSERT INTO {name} SELECT 1 FROM generate_series(1, 2)",
    )


AT_SYNC, AT_COMMIT = ([one_by_one(sql) for sql in breaking(name)] for name in ("broken_at_sync", "broken_at_commit"))
AT_END = query("; ".join(breaking("broken_at_end")))

add("pipeline", "a round of three", pipeline(1, ONE, TWO, ONE, SYNC))
add("pipeline-of-one-transaction", "what came before the error is undone", pipeline(2, MAKE, FAIL, SYNC, SEE, SYNC))
add("pipeline-with-an-error", "all up to the Sync is skipped", pipeline(1, ONE, FAIL, TWO, SYNC))
add("pipeline-with-an-error-in-parse", "as that", pipeline(1, ONE, parse("SELEC"), bind(), execute(), TWO, SYNC))
add("pipeline-with-an-error-in-bind", "as that", pipeline(1, ONE, parse("SELECT $1::int"), bind("x"), execute(), SYNC))
add("pipeline-of-rounds", "each for itself", pipeline(3, FAIL, TWO, SYNC, ONE, SYNC, FAIL, SYNC))
add("pipeline-with-a-transaction", "over several rounds", pipeline(4, BEGIN, SYNC, ONE, SYNC, TWO, SYNC, COMMIT, SYNC))
add("pipeline-that-fails-a-transaction", "25P02", pipeline(4, BEGIN, SYNC, FAIL, SYNC, ONE, SYNC, COMMIT, SYNC))
add("pipeline-that-commits-within", "what was committed stays", pipeline(2, BEGIN, MAKE, COMMIT, FAIL, SYNC, SEE, SYNC))
add("syncs", "each is answered", pipeline(5, SYNC * 5))
add("query-before-the-sync", "both are answered", pipeline(2, ONE, query("SELECT 3"), SYNC))
add("query-after-an-error", "skipped, up to the Sync", pipeline(1, FAIL, query("SELECT 3"), SYNC))
add("call-after-an-error", "skipped, up to the Sync", pipeline(1, FAIL, message("F", b"nonsense"), SYNC))
add(
    "nonsense-after-an-error", "skipped unread", pipeline(1, FAIL, message("B", b"x"), message("D"), message("P"), SYNC)
)
add("flush-in-an-error", "skipped", pipeline(1, FAIL, FLUSH, TWO, FLUSH, SYNC))
add("pipeline-of-commands", "a tag each", pipeline(1, MAKE, one_by_one("INSERT INTO made DEFAULT VALUES"), SEE, SYNC))
add(
    "pipeline-with-a-setting",
    "ParameterStatus amid it",
    pipeline(1, ONE, one_by_one("SET TimeZone = 'Asia/Tokyo'"), TWO, SYNC),
)
add("pipeline-with-a-notice", "amid it", pipeline(1, ONE, one_by_one("DROP TABLE IF EXISTS nowhere"), TWO, SYNC))
add("pipeline-with-two-begins", "25001 as a warning", pipeline(1, BEGIN, BEGIN, COMMIT, COMMIT, SYNC))
add(
    "pipeline-with-a-vacuum",
    "25001, where it is not the first",
    pipeline(2, ONE, one_by_one("VACUUM pg_class"), SYNC, ONE, SYNC),
)
add("pipeline-that-fails-at-its-sync", "after all was complete", pipeline(2, *AT_SYNC, TWO, SYNC, ONE, SYNC))
add(
    "pipeline-that-fails-at-its-commit",
    "what follows is skipped",
    pipeline(2, BEGIN, *AT_COMMIT, COMMIT, TWO, SYNC, ONE, SYNC),
)
add("query-that-fails-at-its-end", "after its tags", pipeline(1, AT_END))
add("query-in-a-round", "it commits what came before it", pipeline(3, MAKE, query("SELECT 3"), FAIL, SYNC, SEE, SYNC))
add("call-amid-a-round", "it commits what came before it", pipeline(2, ONE, message("F", b"nonsense"), TWO, SYNC))
add("procedure-that-commits", "several transactions of one", pipeline(1, one_by_one("DO $$BEGIN COMMIT; END$$"), SYNC))
add("rounds-by-the-hundred", "a thousand statements", pipeline(200, (ONE + TWO + FAIL + ONE + SYNC) * 200))


@case
async def terminate_in_a_pipeline(talk: Talk) -> None:
    """What came before it is done, what comes after it is not read."""
    await talk.log_in()
    talk.send(ONE, SYNC, query("SELECT 3"), TERMINATE, query("SELECT 4"))
    await talk.rest()


@case
async def terminate_after_an_error(talk: Talk) -> None:
    """It is not skipped."""
    await talk.log_in()
    talk.send(FAIL, ONE, TERMINATE)
    await talk.rest()


@case
async def terminate_with_a_body(talk: Talk) -> None:
    """It ends the connection all the same."""
    await talk.log_in()
    talk.send(message("X", b"and more"))
    await talk.rest()


@case
async def backend_killed_in_a_pipeline(talk: Talk) -> None:
    """57P01 in the midst, and nothing behind it."""
    await talk.log_in()
    talk.send(ONE, one_by_one("SELECT pg_terminate_backend(pg_backend_pid())"), SYNC)
    await talk.rest()
