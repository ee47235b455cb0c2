"""The relay between two legs whose transports only note what they are given: what goes on, when, and where ours is."""

import asyncio
import itertools

import pytest

from proxy.contract.record import Notice, StatementEnd, StatementStart
from proxy.errors import JournalFailed, ProtocolViolation
from proxy.wire import messages
from proxy.wire.owed import MOST_OPEN
from tests.harness.waiting import eventually
from tests.unit.proxy.journals import stored
from tests.unit.proxy.stand import LIMIT, MakeStand, Stand
from tests.unit.proxy.wire.playbook import (
    BOUND,
    COPY_DONE,
    COPY_IN,
    PARSED,
    READY,
    READY_IN,
    ROW,
    ROWS,
    SYNC,
    TERMINATE,
    bind,
    complete,
    copy_data,
    error,
    execute,
    parse,
    query,
)
from tests.unit.proxy.wire.reference import header, message

OURS = messages.notice_response("NOTICE", "00000", "soon")
STREAM = ROWS + ROW + message(b"D", b"long" * 5) + complete("SELECT 2") + READY + error("57P01", "ours", "FATAL")


def boundaries(stream: bytes) -> list[int]:
    """Where messages end, the beginning included."""
    ends, at = [0], 0
    while at < len(stream):
        at += 1 + int.from_bytes(stream[at + 1 : at + 5])
        ends.append(at)
    return ends


# --- client to PostgreSQL


async def test_a_record_is_written_before_its_statement_goes_on(stand: Stand) -> None:
    """At the moment in which PostgreSQL is given the bytes, the record is on disk."""
    seen: list[int] = []
    stand.server_side.on_write = lambda _: seen.append(len(stored(stand.folder)))
    stand.client.data_received(query("a"))
    stand.client.data_received(parse("b") + bind() + execute() + bind() + execute() + SYNC)
    assert seen == [1, 3]
    assert stand.upstream == query("a") + parse("b") + bind() + execute() + bind() + execute() + SYNC
    assert [one.sql for one in stand.records()] == ["a", "b", "b"]


async def test_only_whole_messages_go_on(stand: Stand) -> None:
    """Nothing of a statement before it is whole, byte by byte; CopyData alone streams."""
    stream = query("a") + query("b")
    for at in range(len(stream)):
        stand.client.data_received(stream[at : at + 1])
        whole = [end for end in boundaries(stream) if end <= at + 1]
        assert stand.upstream == stream[: whole[-1]]
    row = copy_data(b"x" * 10)
    stand.client.data_received(row[:9])
    assert stand.upstream == stream + row[:9]
    assert stand.relay.bytes_in == len(stream) + 9


async def test_what_needs_no_record_waits_for_none(stand: Stand) -> None:
    """Sync, Flush, CopyData."""
    stand.client.data_received(SYNC)
    assert (stand.upstream, stand.records()) == (SYNC, [])


async def test_without_a_record_nothing_goes_on(stands: MakeStand) -> None:
    """The journal is full: the statement does not go on, nor what came with it, nor anything later."""
    stand = stands(limit_bytes=4_000)
    number = next(number for number in itertools.count() if _fails(stand, query(f"statement {number}")))
    good = b"".join(query(f"statement {earlier}") for earlier in range(number))
    assert isinstance(stand.cause(), JournalFailed)
    assert stand.cause().sqlstate == "58030"
    stand.client.data_received(SYNC + query("later") + SYNC)
    assert stand.upstream == good


def _fails(stand: Stand, data: bytes) -> bool:
    stand.client.data_received(SYNC + data)
    stand.server_side.written = stand.upstream.replace(SYNC, b"")
    return stand.relay.ended.done()


async def test_good_messages_before_a_bad_one(stand: Stand) -> None:
    """They go on and are recorded; the bad one and all behind it do not."""
    stand.client.data_received(query("good") + b"?" + query("evil"))
    stand.client.data_received(query("later"))
    assert stand.upstream == query("good")
    assert [one.sql for one in stand.records()] == ["good"]
    assert isinstance(stand.cause(), ProtocolViolation)
    assert stand.cause().detail == "invalid frontend message type 63"


async def test_a_statement_that_is_too_long(stand: Stand) -> None:
    """It is refused by its header, before it is held."""
    stand.client.data_received(header(b"Q", LIMIT + 1))
    assert isinstance(stand.cause(), ProtocolViolation)
    assert stand.upstream == b""


async def test_the_first_cause_counts(stand: Stand) -> None:
    """What happens while the session ends is not why it ended."""
    stand.client.data_received(b"?")
    stand.server.connection_lost(None)
    stand.client.connection_lost(None)
    assert isinstance(stand.cause(), ProtocolViolation)


async def test_answers_that_cannot_be_told_apart(stand: Stand) -> None:
    """The session ends before a record says something untrue."""
    stand.client.data_received(parse("COPY t FROM STDIN") + bind() + execute() + SYNC + query("evil"))
    stand.server.data_received(PARSED + BOUND + COPY_IN + error("P0001", "no"))
    assert isinstance(stand.cause(), ProtocolViolation)
    assert stand.cause().detail == "Send CopyDone or CopyFail before the next statement."


# --- PostgreSQL to client


async def test_answers_go_on_as_they_come(stand: Stand) -> None:
    """Whole or not; the ends are recorded, lazily."""
    stand.client.data_received(query("a"))
    answer = ROWS + ROW + complete("SELECT 1") + READY
    for at in range(len(answer)):
        stand.server.data_received(answer[at : at + 1])
        assert stand.told == answer[: at + 1]
    assert stand.relay.bytes_out == len(answer)
    start, end = stand.records()
    assert isinstance(start, StatementStart)
    assert isinstance(end, StatementEnd)
    assert (end.tags, end.bytes_out) == (["SELECT 1"], len(answer))


async def test_copied_bytes_are_counted(stand: Stand) -> None:
    """Of both directions."""
    stand.client.data_received(query("COPY t FROM STDIN"))
    stand.server.data_received(COPY_IN)
    stand.client.data_received(copy_data(b"12345") + message(b"c"))
    stand.server.data_received(complete("COPY 1") + READY)
    assert [one.bytes for one in stand.records() if one.__class__.__name__ == "Copy"] == [5]


async def test_a_server_that_breaks_the_protocol(stand: Stand) -> None:
    """It ends the session, as if it had gone."""
    stand.server.data_received(READY + header(b"D", 3))
    assert stand.cause() == "upstream"


async def test_a_record_of_ours(stand: Stand) -> None:
    """`record` puts it behind the others, into the same chain."""
    stand.client.data_received(query("a"))
    stand.relay.record(Notice(severity="NOTICE", sqlstate="00000", message="soon"))
    first, second = stand.records()
    assert (second.message, first.seq, second.seq) == ("soon", 0, 1)


async def test_an_end_that_cannot_be_recorded(stands: MakeStand) -> None:
    """Fails closed too: the journal has no room for what happened."""
    stand = stands(limit_bytes=4_000)
    notice = Notice(severity="NOTICE", sqlstate="00000", message="x" * 3_000)
    for _ in range(400):
        stand.relay.record(notice)
    assert isinstance(stand.cause(), JournalFailed)


# --- messages of our own


@pytest.mark.parametrize("at", range(len(STREAM)))
async def test_ours_stands_between_two_of_theirs(stand: Stand, at: int) -> None:
    """Wherever the stream is cut when we have something to say: nothing is lost, broken, or out of order."""
    stand.server.data_received(STREAM[:at])
    stand.relay.tell(OURS)
    stand.relay.tell(OURS + OURS)
    assert stand.told == STREAM[:at] + (OURS * 3 if at in boundaries(STREAM) else b"")
    stand.server.data_received(STREAM[at:])
    place = stand.told.index(OURS)
    assert stand.told.replace(OURS, b"") == STREAM
    assert stand.told[place:].startswith(OURS * 3)
    assert place in boundaries(STREAM)


@pytest.mark.parametrize("size", [1, 3, 7])
async def test_ours_waits_for_the_end_of_a_long_message(stand: Stand, size: int) -> None:
    """In small pieces: not before that end, and right behind it."""
    long, rest = message(b"D", b"x" * 50), READY
    stand.server.data_received(long[:2])
    stand.relay.tell(OURS)
    stream = long[2:] + rest
    for at in range(0, len(stream), size):
        stand.server.data_received(stream[at : at + size])
    place = stand.told.index(OURS)
    assert place in (len(long), len(long) + len(rest))
    assert stand.told.replace(OURS, b"") == long + rest


# --- closing in


@pytest.mark.parametrize("at", range(len(STREAM) + 1))
async def test_closing_in(stand: Stand, at: int) -> None:
    """The client gets the message that it has begun to receive, whole, and then nothing more: no FATAL either."""
    stand.server.data_received(STREAM[:at])
    stand.relay.close_in()
    assert stand.relay.settled == (at in boundaries(STREAM))
    stand.relay.tell(OURS)
    stand.server.data_received(STREAM[at:])
    stand.server.data_received(STREAM)
    fatal = boundaries(STREAM)[-2]
    if at in boundaries(STREAM):
        assert stand.told == STREAM[:at]
    elif at < fatal:
        assert stand.told == STREAM[:fatal]
    else:
        assert stand.told == STREAM
    assert stand.relay.settled


@pytest.mark.parametrize("at", range(1, len(STREAM)))
async def test_closing_in_byte_by_byte(stand: Stand, at: int) -> None:
    """However small the pieces are: up to the first end of a message."""
    stand.server.data_received(STREAM[:at])
    stand.relay.close_in()
    for one in range(at, len(STREAM)):
        stand.server.data_received(STREAM[one : one + 1])
    end = next(end for end in boundaries(STREAM) if end >= at)
    assert stand.told == STREAM[:end]


async def test_closing_in_drops_what_waits_to_be_told(stand: Stand) -> None:
    """A notice that found no boundary is of no use any more."""
    stand.server.data_received(STREAM[:3])
    stand.relay.tell(OURS)
    stand.relay.close_in()
    stand.server.data_received(STREAM[3:])
    assert OURS not in stand.told


async def test_closing_in_takes_nothing_more_from_the_client(stand: Stand) -> None:
    """Not even to read it; PostgreSQL's last words are recorded all the same."""
    stand.client.data_received(query("a"))
    stand.relay.close_in()
    stand.client.data_received(query("b"))
    assert stand.upstream == query("a")
    stand.server.data_received(complete("A") + READY)
    assert [one.statement for one in stand.records() if isinstance(one, StatementEnd)] == [1]
    assert not stand.relay.tracker.busy


async def test_closing_in_frees_the_server(stand: Stand) -> None:
    """A client that does not read must not keep PostgreSQL's last words back."""
    reading = []
    for change in (stand.client.pause_writing, stand.relay.close_in, stand.client.pause_writing):
        change()
        reading.append(stand.server_side.reading)
    assert reading == [False, True, True]


async def test_closing_in_twice(stand: Stand) -> None:
    """Changes nothing: what is settled stays so."""
    stand.server.data_received(READY)
    stand.relay.close_in()
    stand.server.data_received(STREAM[:3])
    stand.relay.close_in()
    assert stand.relay.settled
    assert stand.told == READY


# --- the ends


async def test_an_idle_client_goes(stand: Stand) -> None:
    """At the end of its stream."""
    stand.client.eof_received()
    assert stand.cause() == "client"


async def test_a_client_that_only_stops_sending(stand: Stand) -> None:
    """In clear text it gets the answers that it waits for, and then goes."""
    stand.client.data_received(query("a") + query("b"))
    assert stand.client.eof_received() is True
    stand.server.data_received(complete("A") + READY)
    assert stand.cause() is None
    stand.server.data_received(complete("B") + READY)
    assert stand.cause() == "client"
    assert stand.told == complete("A") + READY + complete("B") + READY


@pytest.mark.parametrize("early", [True, False], ids=["before PostgreSQL wants data", "behind that"])
async def test_a_client_that_gives_up_a_copy(stand: Stand, early: bool) -> None:  # noqa: FBT001 a parameter of pytest's
    """It owes data that never comes: nobody waits for that, nor holds the COPY's locks until the grant ends."""
    stand.client.data_received(query("COPY t FROM STDIN"))
    if early:
        stand.client.eof_received()
        assert stand.cause() is None
        stand.server.data_received(COPY_IN)
    else:
        stand.server.data_received(COPY_IN)
        stand.client.data_received(copy_data(b"1\n"))
        stand.client.eof_received()
    assert stand.cause() == "client"


async def test_a_client_that_stops_sending_behind_its_copy(stand: Stand) -> None:
    """All data is there: it gets the answer."""
    stand.client.data_received(query("COPY t FROM STDIN"))
    stand.server.data_received(COPY_IN)
    stand.client.data_received(copy_data(b"1\n") + COPY_DONE)
    stand.client.eof_received()
    assert stand.cause() is None
    stand.server.data_received(complete("COPY 1") + READY)
    assert stand.cause() == "client"


async def test_a_client_that_stops_sending_over_tls(stands: MakeStand) -> None:
    """There is no half of TLS: it has gone."""
    stand = stands(encrypted=True)
    stand.client.data_received(query("a"))
    assert stand.client.eof_received() is False
    assert stand.cause() == "client"


async def test_a_client_that_is_lost(stand: Stand) -> None:
    """While something runs: at once."""
    stand.client.data_received(query("a"))
    stand.client.connection_lost(None)
    assert stand.cause() == "client"


async def test_a_half_closed_client_that_is_lost(stand: Stand) -> None:
    """Also after it had only stopped sending."""
    stand.client.data_received(query("a"))
    stand.client.eof_received()
    assert stand.cause() is None
    stand.client.connection_lost(None)
    await asyncio.sleep(0)
    assert stand.cause() == "client"


async def test_terminate(stand: Stand) -> None:
    """It is PostgreSQL that ends the session, when it has done what it was asked before."""
    stand.client.data_received(query("a") + TERMINATE)
    stand.client.connection_lost(None)
    stand.server.data_received(complete("A") + READY)
    await asyncio.sleep(0)
    assert stand.cause() is None
    assert stand.upstream == query("a") + TERMINATE
    stand.server.eof_received()
    assert stand.cause() == "upstream"


async def test_the_server_goes(stand: Stand) -> None:
    """Both are told: why, and that nothing more comes."""
    assert not stand.relay.upstream_ended.done()
    stand.server.data_received(READY_IN)
    stand.server.connection_lost(None)
    assert stand.cause() == "upstream"
    assert stand.relay.upstream_ended.done()
    stand.server.connection_lost(None)


async def test_a_session_that_answers_flow(stand: Stand) -> None:
    """Each leg stops the other's reading while it cannot send, and no one else's."""
    stand.server.pause_writing()
    assert (stand.client_side.reading, stand.server_side.reading) == (False, True)
    stand.server.resume_writing()
    assert (stand.client_side.reading, stand.server_side.reading) == (True, True)


async def test_a_client_that_is_far_ahead(stand: Stand) -> None:
    """It is not heard on before PostgreSQL has answered: what is open takes memory, and everybody's time."""
    stand.client.data_received(query("a") + SYNC * MOST_OPEN)
    await eventually(lambda: len(stand.upstream) == len(query("a") + SYNC * MOST_OPEN))
    assert not stand.client_side.reading
    stand.server.data_received(complete("A"))
    assert not stand.client_side.reading
    stand.server.data_received(READY)
    assert stand.client_side.reading


async def test_what_came_early_is_relayed(stands: MakeStand) -> None:
    """Bytes that a leg held when the relay began are not lost."""
    stand = stands(early=(query("early"), ROW))
    assert (stand.upstream, stand.told) == (query("early"), ROW)
