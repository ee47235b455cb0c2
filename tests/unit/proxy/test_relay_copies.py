"""The relay where a COPY's data is on record: it is written before it goes on, either way, or does not go on."""

import tracemalloc

import pytest

from proxy.contract.record import Copy, CopyData, StatementEnd
from proxy.errors import JournalFailed
from tests.unit.proxy.journals import stored
from tests.unit.proxy.stand import MakeStand, Stand, Transport
from tests.unit.proxy.wire.playbook import (
    COPY_DONE,
    COPY_IN,
    COPY_OUT,
    READY,
    SYNC,
    complete,
    copy_data,
    query,
)

ROW = copy_data(b"x" * 3_000)


def data(stand: Stand) -> list[str]:
    """The pieces on record."""
    return [one.base64 for one in stand.records() if isinstance(one, CopyData)]


def copying_in(stand: Stand) -> bytes:
    """Begin a COPY IN; what PostgreSQL has got of it."""
    stand.client.data_received(query("COPY t FROM STDIN"))
    stand.server.data_received(COPY_IN)
    return stand.upstream


def copying_out(stand: Stand) -> bytes:
    """Begin a COPY OUT; what the client has got of it."""
    stand.client.data_received(query("COPY t TO STDOUT"))
    stand.server.data_received(COPY_OUT)
    return stand.told


def on_record(stand: Stand, side: Transport) -> list[int]:
    """How many pieces are in the journal at each moment in which this side is given something."""
    seen: list[int] = []
    side.on_write = lambda _: seen.append(len([one for one in stored(stand.folder) if b"copy.data" in one]))
    return seen


async def test_data_is_written_before_it_goes_on(stands: MakeStand) -> None:
    """At the moment in which PostgreSQL is given it; half a row too."""
    stand = stands(copy_data="in")
    before = copying_in(stand)
    seen = on_record(stand, stand.server_side)
    row = copy_data(b"12345")
    for at in range(len(row)):
        stand.client.data_received(row[at : at + 1])
    assert seen == [0, 1, 2, 3, 4, 5]
    assert stand.upstream == before + row
    stand.client.data_received(COPY_DONE)
    stand.server.data_received(complete("COPY 1") + READY)
    assert [type(one).__name__ for one in stand.records()] == [
        "StatementStart",
        *["CopyData"] * 5,
        "Copy",
        "StatementEnd",
    ]


async def test_data_that_cannot_be_recorded_does_not_go_on(stands: MakeStand) -> None:
    """The journal is full: PostgreSQL gets what is on record, and the session ends with 58030."""
    stand = stands(copy_data="in", limit_bytes=40_000)
    before, count = copying_in(stand), 0
    while not stand.relay.ended.done():
        stand.client.data_received(ROW)
        count += 1
    assert isinstance(stand.cause(), JournalFailed)
    assert stand.upstream == before + ROW * (count - 1)
    assert [step.statement for step in stand.relay.tracker.running] == [1]
    stand.client.data_received(ROW + COPY_DONE)
    assert stand.upstream == before + ROW * (count - 1)


async def test_data_of_what_may_finish(stands: MakeStand) -> None:
    """At the end of a grant it goes on, and is on record; what comes behind it is neither."""
    stand = stands(copy_data="in")
    before = copying_in(stand)
    stand.relay.finish()
    stand.client.data_received(copy_data(b"1") + copy_data(b"2"))
    stand.client.data_received(copy_data(b"3") + COPY_DONE + SYNC + copy_data(b"4") + query("evil") + copy_data(b"5"))
    assert stand.upstream == before + b"".join(map(copy_data, [b"1", b"2", b"3"])) + COPY_DONE + SYNC + copy_data(b"4")
    assert stand.relay.turned_away
    assert data(stand) == ["MTI=", "Mw==", "NA=="]
    assert stand.relay.tracker.statements == 1


async def test_data_out_is_written_before_it_goes_on(stands: MakeStand) -> None:
    """As the other way round; the statement's end follows."""
    stand = stands(copy_data="full")
    before = copying_out(stand)
    seen = on_record(stand, stand.client_side)
    row = copy_data(b"12345")
    for at in range(len(row)):
        stand.server.data_received(row[at : at + 1])
    assert seen == [0, 0, 0, 0, 0, 1, 2, 3, 4, 5]
    stand.server.data_received(COPY_DONE + complete("COPY 1") + READY)
    assert stand.told == before + row + COPY_DONE + complete("COPY 1") + READY
    assert [type(one) for one in stand.records()[-2:]] == [Copy, StatementEnd]


@pytest.mark.parametrize("between", [True, False])
async def test_data_out_that_cannot_be_recorded_does_not_go_on(stands: MakeStand, *, between: bool) -> None:
    """The client gets what is on record; a message of ours may follow only where that ends with a whole message."""
    stand = stands(copy_data="full", limit_bytes=60_000)
    copying_out(stand)
    stream = b"" if between else ROW[:1_000]
    stand.server.data_received(stream)
    rest = ROW if between else ROW[1_000:] + ROW[:1_000]
    got = stand.told
    while not stand.relay.ended.done():
        got = stand.told
        stand.server.data_received(rest)
    assert isinstance(stand.cause(), JournalFailed)
    assert stand.told == got
    stand.server.data_received(rest)
    assert stand.told == got
    stand.relay.close_in()
    stand.server.data_received(rest + READY)
    assert (stand.told, stand.relay.settled) == (got, between)


async def test_the_answer_of_a_session_that_ends(stands: MakeStand) -> None:
    """What completes the message that the client has begun to receive is on record like all before it."""
    stand = stands(copy_data="full")
    before = copying_out(stand)
    stand.server.data_received(ROW[:100])
    stand.relay.close_in()
    stand.server.data_received(ROW[100:])
    assert stand.told == before + ROW
    assert len(data(stand)) == 2
    assert stand.relay.settled


async def test_memory(stands: MakeStand) -> None:
    """However much is copied, what is held is a chunk and its record."""
    stand = stands(copy_data="full")
    copying_in(stand)
    stand.server_side.on_write = lambda _: setattr(stand.server_side, "written", b"")
    chunk = copy_data(b"x" * 90) * 10  # Less than a slice: it is handed on at once.
    tracemalloc.start()
    try:
        for _ in range(2_000):
            stand.client.data_received(chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert stand.relay.copied == (2_000 * 10 * 90, 0)
    assert peak < 100_000


async def test_other_answers(stands: MakeStand) -> None:
    """Where data out is on record, everything else is as ever."""
    stand = stands(copy_data="full")
    stand.client.data_received(query("a"))
    stand.server.data_received(complete("SELECT 1") + READY)
    stand.client.data_received(query("b") + SYNC)
    stand.server.data_received(complete("SELECT 1") + READY + READY)
    assert stand.told == (complete("SELECT 1") + READY) * 2 + READY
    assert [one.tags for one in stand.records() if isinstance(one, StatementEnd)] == [["SELECT 1"]] * 2
