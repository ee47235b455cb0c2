"""What happens to a session from outside, at a moment of its own: terminated, cancelled, notified, locked out."""

from tests.harness.wire import FLUSH, SYNC, one_by_one, query
from tests.oracle.case import Script, add, case
from tests.oracle.talk import Talk

NAP, SLEEP = "SELECT pg_sleep(0.2)", "SELECT pg_sleep(30)"


async def by_another(talk: Talk, function: str) -> None:
    """Another session calls this on the backend of `talk`."""
    other = talk.beside()
    await other.log_in()
    await other.sql(f"SELECT {function}({talk.pids[0]})")


def terminated(*before: bytes, ready: int = 0, until: str = "") -> Script:
    """Say this and hear that, and be terminated."""

    async def script(talk: Talk) -> None:
        await talk.log_in()
        talk.send(*before)
        if ready:
            await talk.ready(ready)
        if until:
            await talk.until(until)
        await by_another(talk, "pg_terminate_backend")
        await talk.rest()

    return script


add("terminated-while-idle", "57P01, unasked", terminated())
add("terminated-in-a-transaction", "57P01, unasked", terminated(query("BEGIN"), query("SELECT 1"), ready=2))
add("terminated-in-a-failed-transaction", "57P01", terminated(query("BEGIN"), query("SELECT 1/0"), ready=2))
add("terminated-in-a-round", "57P01, before any Sync", terminated(one_by_one("SELECT 1"), FLUSH, until="C"))
add(
    "terminated-in-copy-in", "57P01", terminated(query("CREATE TEMP TABLE c ()"), query("COPY c FROM STDIN"), until="G")
)


@case
async def terminated_in_a_query(talk: Talk) -> None:
    """57P01 in place of its answer."""
    await talk.log_in()
    talk.send(query(SLEEP))
    await talk.sleeping()
    await by_another(talk, "pg_terminate_backend")
    await talk.rest()


@case
async def cancelled_by_another(talk: Talk) -> None:
    """57014, without a cancel request."""
    await talk.log_in()
    talk.send(query(SLEEP))
    await talk.sleeping()
    await by_another(talk, "pg_cancel_backend")
    await talk.ready()
    await talk.alive()


@case
async def cancelled_in_a_transaction(talk: Talk) -> None:
    """It fails."""
    await talk.log_in()
    await talk.sql("BEGIN")
    talk.send(one_by_one(SLEEP), SYNC)
    await talk.sleeping()
    await talk.cancel()
    await talk.ready()
    await talk.sql("SELECT 1", "COMMIT")


@case
async def notified_in_a_transaction(talk: Talk) -> None:
    """The notification waits for its end."""
    await talk.log_in()
    await talk.sql("LISTEN waiting", "BEGIN")
    other = talk.beside()
    await other.log_in()
    await other.sql("NOTIFY waiting")
    await talk.sql("SELECT 1", "COMMIT")
    await talk.alive()


@case
async def notified_in_a_pipeline(talk: Talk) -> None:
    """It comes before a ReadyForQuery."""
    await talk.log_in()
    talk.send(one_by_one("LISTEN piped"), SYNC, one_by_one("NOTIFY piped, 'x'"), one_by_one("SELECT 1"), SYNC)
    await talk.ready(2)
    await talk.alive()


@case
async def locked_out(talk: Talk) -> None:
    """55P03, after a wait for another session."""
    other = talk.beside()
    await other.log_in()
    await other.sql("BEGIN", "SELECT pg_advisory_lock(4711)")
    await talk.log_in()
    await talk.sql("SET lock_timeout = '50ms'", "SELECT pg_advisory_lock(4711)")
    await other.sql("SELECT pg_advisory_unlock_all()", "COMMIT")
    await talk.sql("SELECT pg_advisory_lock(4711)")


@case
async def not_serialisable(talk: Talk) -> None:
    """40001: two sessions, a row of both."""
    await talk.log_in()
    await talk.sql("CREATE TABLE shared_row (x int)", "INSERT INTO shared_row VALUES (1)")
    await talk.sql("BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT x + 0 FROM shared_row")
    other = talk.beside()
    await other.log_in()
    await other.sql("UPDATE shared_row SET x = 2")
    await talk.sql("UPDATE shared_row SET x = 3", "ROLLBACK", "DROP TABLE shared_row")
