"""The relay that lets finish what runs (end mode `finish`): nothing more begins, and what was asked is answered."""

import asyncio

import pytest

from proxy.contract.record import StatementEnd, StatementStart
from proxy.contract.settings import Parameters
from proxy.errors import ProtocolViolation
from tests.unit.proxy.stand import MakeStand, Stand
from tests.unit.proxy.wire.playbook import (
    BOUND,
    COPY_DONE,
    COPY_IN,
    PARSED,
    READY,
    ROW,
    ROWS,
    SYNC,
    TERMINATE,
    bind,
    complete,
    copy_data,
    execute,
    parse,
    query,
)


async def test_finishing(stand: Stand) -> None:
    """What runs is answered, and whatever the client sends meanwhile is neither forwarded nor recorded."""
    stand.client.data_received(query("a"))
    stand.relay.finish()
    stand.client.data_received(query("b") + SYNC)
    stand.client.data_received(query("c"))
    assert stand.relay.turned_away
    stand.server.data_received(ROWS + ROW)
    assert stand.cause() is None
    stand.server.data_received(complete("A") + READY)
    assert stand.cause() == "finished"
    assert (stand.upstream, stand.told) == (query("a"), ROWS + ROW + complete("A") + READY)
    start, end = stand.records()
    assert (start.sql, end.tags) == ("a", ["A"])


@pytest.mark.parametrize("policy", list(Parameters))
async def test_finishing_a_plain_statement(stands: MakeStand, policy: Parameters) -> None:
    """One that the shortcut has begun: it gives up its place, and the records are the same."""
    stand = stands(policy=policy)
    stand.client.data_received(parse("b", "s") + SYNC)
    stand.server.data_received(PARSED + READY)
    asked = bind(statement="s") + execute() + SYNC
    stand.client.data_received(asked)
    stand.relay.finish()
    stand.client.data_received(asked)
    stand.server.data_received(BOUND + complete("B") + READY)
    assert stand.cause() == "finished"
    assert stand.upstream == parse("b", "s") + SYNC + asked
    assert [(one.statement, one.tags) for one in stand.records() if isinstance(one, StatementEnd)] == [(1, ["B"])]
    assert stand.relay.tracker.statements == 1


async def test_finishing_a_pipeline(stand: Stand) -> None:
    """All that was forwarded is answered, the Sync that comes behind it included."""
    stand.client.data_received(query("a") + parse("b") + bind() + execute())
    stand.relay.finish()
    stand.server.data_received(complete("A") + READY)
    assert stand.cause() is None
    stand.client.data_received(SYNC + query("c"))
    stand.server.data_received(PARSED + BOUND + complete("B") + READY)
    assert stand.cause() == "finished"
    assert stand.upstream == query("a") + parse("b") + bind() + execute() + SYNC
    assert [one.sql for one in stand.records() if isinstance(one, StatementStart)] == ["a", "b"]


async def test_finishing_a_copy(stand: Stand) -> None:
    """Its data go on, from the middle of a message, and so does their end."""
    row = copy_data(b"x" * 10)
    stand.client.data_received(query("COPY t FROM STDIN"))
    stand.server.data_received(COPY_IN)
    stand.client.data_received(row[:7])
    stand.relay.finish()
    stand.client.data_received(row[7:] + row)
    stand.client.data_received(COPY_DONE + query("b"))
    assert stand.upstream == query("COPY t FROM STDIN") + row + row + COPY_DONE
    stand.server.data_received(complete("COPY 2") + READY)
    assert stand.cause() == "finished"


async def test_a_client_that_leaves_while_its_statement_may_finish(stand: Stand) -> None:
    """That is a cause of its own; Terminate is not: PostgreSQL takes it when it is done."""
    stand.client.data_received(query("a"))
    stand.relay.finish()
    stand.client.data_received(TERMINATE)
    assert stand.upstream == query("a") + TERMINATE
    stand.client.connection_lost(None)
    await asyncio.sleep(0)
    assert stand.cause() is None
    stand.server.data_received(complete("A") + READY)
    assert stand.cause() == "finished"


async def test_a_client_that_breaks_the_protocol_while_its_statement_may_finish(stand: Stand) -> None:
    """Ends the session at once."""
    stand.client.data_received(query("a"))
    stand.relay.finish()
    stand.client.data_received(b"?")
    assert isinstance(stand.cause(), ProtocolViolation)
