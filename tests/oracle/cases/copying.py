"""COPY: right, and gone wrong in every way."""

from tests.harness.wire import COPY_DONE, FLUSH, SYNC, TERMINATE, bind, execute, message, one_by_one, parse, query
from tests.oracle.case import Script, add, case, up_to_sync
from tests.oracle.talk import Talk

TABLE = "CREATE TEMP TABLE c (x int)"
IN = query("COPY c FROM STDIN")
IN_EXTENDED = one_by_one("COPY c FROM STDIN")
FAIL = message("f", b"enough\0")


def row(text: str) -> bytes:
    """A CopyData message."""
    return message("d", text.encode())


def copying(ready: int, *data: bytes, begin: bytes = IN) -> Script:
    """A COPY into a table; when it takes data, all of `data`. Then what is in the table."""

    async def script(talk: Talk) -> None:
        await talk.log_in()
        await talk.sql(TABLE)
        talk.send(begin, *(() if begin is IN else (FLUSH,)))
        await talk.until("G")
        talk.send(*data)
        await talk.ready(ready)
        await talk.sql("SELECT x + 0 FROM c")

    return script


def extended(ready: int, *data: bytes) -> Script:
    """The same by the extended protocol."""
    return copying(ready, *data, begin=IN_EXTENDED)


ROWS = row("1\n") + row("2\n")

add("copy-in", "two rows", copying(1, ROWS, COPY_DONE))
add("copy-in-of-nothing", "no row", copying(1, COPY_DONE))
add(
    "copy-in-in-pieces",
    "a row over many messages",
    copying(1, row("1"), row(""), row("2"), row("3\n4"), row("5\n"), COPY_DONE),
)
add("copy-in-ended-by-its-mark", "what follows is not looked at", copying(1, ROWS, row("\\.\n"), row("3\n"), COPY_DONE))
add("copy-in-that-fails", "57014, in the client's words", copying(1, ROWS, FAIL))
add("copy-in-that-fails-without-an-end", "08P01", copying(1, ROWS, message("f", b"enough")))
add("copy-in-that-fails-without-a-word", "08P01", copying(1, ROWS, message("f")))
add("copy-in-done-with-a-body", "08P01", copying(1, ROWS, message("c", b"body")))
add("copy-in-of-a-bad-row", "22P02 with its context", copying(1, row("1\n"), row("x\n"), row("3\n"), COPY_DONE))
add("copy-in-of-a-bad-row-and-much-more", "drained", copying(1, row("x\n"), row("3\n" * 10_000) * 20, COPY_DONE))
add("copy-in-with-flush-and-sync", "both are ignored", copying(1, row("1\n"), FLUSH, SYNC, row("2\n"), COPY_DONE))
add("copy-in-done-twice", "the second is ignored", copying(1, ROWS, COPY_DONE, COPY_DONE, FAIL, row("9\n")))
add("copy-in-extended", "the Sync comes after it", extended(1, ROWS, COPY_DONE, SYNC))
add("copy-in-extended-and-more", "a pipeline behind it", extended(1, ROWS, COPY_DONE, one_by_one("SELECT 1"), SYNC))
add("copy-in-extended-that-fails", "skipped up to the Sync", extended(1, ROWS, FAIL, one_by_one("SELECT 1"), SYNC))
add("copy-in-extended-of-a-bad-row", "skipped up to the Sync", extended(1, row("x\n"), ROWS, COPY_DONE, SYNC))
add("copy-data-for-nobody", "ignored", copying(2, COPY_DONE, ROWS, SYNC))


def wrong(data: bytes, begin: bytes = IN) -> Script:
    """Something else while the COPY takes data, and what comes of it."""

    async def script(talk: Talk) -> None:
        await talk.log_in()
        await talk.sql(TABLE)
        talk.send(begin, *(() if begin is IN else (FLUSH,)))
        await talk.until("G")
        talk.send(row("1\n"), data)
        await talk.rest()

    return script


add("copy-in-and-a-query", "08P01, and out of step", wrong(query("SELECT 1")))
add("copy-in-and-a-parse", "08P01, and out of step", wrong(parse("SELECT 1")))
add("copy-in-extended-and-a-bind", "08P01, and out of step", wrong(bind(), IN_EXTENDED))
add("copy-in-and-terminate", "08P01, and out of step", wrong(TERMINATE))
add("copy-in-and-no-message", "08P01, and out of step", wrong(message("z")))


add("copy-done-without-copy", "ignored", up_to_sync(COPY_DONE))
add("copy-fail-without-copy", "ignored", up_to_sync(FAIL))
add("copy-data-without-copy", "ignored", up_to_sync(ROWS))
add("copy-messages-in-a-pipeline", "ignored", up_to_sync(parse("SELECT 1"), COPY_DONE, bind(), FAIL, execute(), ROWS))


@case
async def copy_in_and_closed(talk: Talk) -> None:
    """The client closes its half in the midst of it."""
    await talk.plain()
    await talk.log_in()
    await talk.sql(TABLE)
    talk.send(IN, ROWS)
    await talk.until("G")
    await talk.end()
    await talk.rest()


@case
async def copy_in_and_closed_at_once(talk: Talk) -> None:
    """The same, before PostgreSQL has said that it takes data."""
    await talk.plain()
    await talk.log_in()
    await talk.sql(TABLE)
    talk.send(IN, ROWS)
    await talk.end()
    await talk.rest()


@case
async def copy_in_done_and_closed(talk: Talk) -> None:
    """A client that has said all still gets its answer (`(cat script; cat data) | nc -N`)."""
    await talk.plain()
    await talk.log_in()
    await talk.sql(TABLE)
    talk.send(IN, ROWS, COPY_DONE, query("SELECT x + 0 FROM c"))
    await talk.end()
    await talk.rest()


@case
async def copy_amid_several(talk: Talk) -> None:
    """Two COPYs in one Query, the data sent ahead."""
    await talk.log_in()
    await talk.sql(TABLE)
    talk.send(query("SELECT 1; COPY c FROM STDIN; COPY c FROM STDIN; SELECT x + 0 FROM c"))
    await talk.until("G")
    talk.send(ROWS, COPY_DONE)
    await talk.until("G")
    talk.send(row("3\n"), COPY_DONE)
    await talk.ready()


@case
async def copy_in_sent_ahead(talk: Talk) -> None:
    """Everything in one segment, before PostgreSQL has said that it takes data."""
    await talk.log_in()
    await talk.sql(TABLE)
    talk.send(IN, ROWS, COPY_DONE, query("SELECT x + 0 FROM c"))
    await talk.ready(2)


@case
async def copy_in_sent_ahead_to_no_table(talk: Talk) -> None:
    """The COPY fails at once: its data is ignored, what follows is not."""
    await talk.log_in()
    talk.send(query("COPY nowhere FROM STDIN"), ROWS, COPY_DONE, query("SELECT 1"))
    await talk.ready(2)


@case
async def copy_out(talk: Talk) -> None:
    """As text, as binary, of nothing, and with an error in its midst."""
    await talk.log_in()
    await talk.sql("COPY (SELECT generate_series(1, 3), NULL) TO STDOUT", "COPY (SELECT 1) TO STDOUT (FORMAT binary)")
    await talk.sql(
        "COPY (SELECT 1 LIMIT 0) TO STDOUT", "COPY (SELECT 1/(3 - x) FROM generate_series(1, 5) x) TO STDOUT"
    )


@case
async def copy_out_extended(talk: Talk) -> None:
    """By Execute, with a limit that does not count."""
    await talk.log_in()
    copy = "COPY (SELECT generate_series(1, 3)) TO STDOUT"
    talk.send(parse(copy), bind(), execute(limit=1), one_by_one("SELECT 1"), SYNC)
    await talk.ready()
    await talk.alive()


@case
async def copy_in_binary_of_nonsense(talk: Talk) -> None:
    """22P04."""
    await talk.log_in()
    await talk.sql(TABLE)
    talk.send(query("COPY c FROM STDIN (FORMAT binary)"))
    await talk.until("G")
    talk.send(ROWS, COPY_DONE)
    await talk.ready()
