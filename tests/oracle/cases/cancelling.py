"""Cancel requests, and sockets of which one half is closed."""

from tests.harness.wire import PROTOCOL_3_2, SYNC, one_by_one, query
from tests.oracle.case import case
from tests.oracle.talk import Talk

SLEEP = "SELECT pg_sleep(30)"
NAP = "SELECT pg_sleep(2)"
"""Long enough for somebody to log in meanwhile, and see it asleep, on a busy machine too."""


@case
async def cancel(talk: Talk) -> None:
    """57014, and the connection lives; the request goes in clear, as libpq sends it."""
    await talk.log_in()
    talk.send(query(SLEEP))
    await talk.sleeping()
    await talk.cancel()
    await talk.ready()
    await talk.alive()


@case
async def cancel_encrypted(talk: Talk) -> None:
    """The same by TLS."""
    await talk.log_in()
    talk.send(query(SLEEP))
    await talk.sleeping()
    await talk.cancel(encrypted=True)
    await talk.ready()
    await talk.alive()


@case
async def cancel_with_a_long_key(talk: Talk) -> None:
    """The same on protocol 3.2, where both speak it."""
    await talk.log_in(version=PROTOCOL_3_2)
    talk.send(query(SLEEP))
    await talk.sleeping()
    await talk.cancel()
    await talk.ready()


@case
async def cancel_with_a_wrong_key(talk: Talk) -> None:
    """Nothing is said, nothing happens."""
    await talk.log_in()
    talk.send(query(NAP))
    await talk.sleeping()
    await talk.cancel(bytes(len(talk.secret)))
    await talk.cancel(talk.secret + b"more")
    await talk.ready()


@case
async def cancel_while_idle(talk: Talk) -> None:
    """It does not hit the next query."""
    await talk.log_in()
    await talk.cancel()
    await talk.alive()


@case
async def cancel_in_a_pipeline(talk: Talk) -> None:
    """What comes behind it up to the Sync is skipped."""
    await talk.log_in()
    talk.send(one_by_one("SELECT 1"), one_by_one(SLEEP), one_by_one("SELECT 2"), SYNC)
    await talk.sleeping()
    await talk.cancel()
    await talk.ready()
    await talk.alive()


@case
async def half_closed(talk: Talk) -> None:
    """A client that has said all in clear still gets its answers (`printf ... | nc -N`)."""
    await talk.plain()
    await talk.log_in()
    talk.send(query("SELECT 1"), query(NAP), one_by_one("SELECT 2"), SYNC)
    await talk.end()
    await talk.rest()


@case
async def half_closed_while_idle(talk: Talk) -> None:
    """A client that has said nothing is gone."""
    await talk.plain()
    await talk.log_in()
    await talk.end()
    await talk.rest()


@case
async def half_closed_in_a_message(talk: Talk) -> None:
    """It is never carried out."""
    await talk.plain()
    await talk.log_in()
    talk.send(query("SELECT 1"), query("SELECT 2")[:-3])
    await talk.end()
    await talk.rest()
