"""The leg in relay mode: everything is handed on in order, in turns, never to a peer that cannot take it."""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator
from typing import TypeAlias

import pytest
import uvloop

from proxy import leg as leg_module
from proxy.leg import CROWDED, FIRST_SLICE_BYTES, LEAST_SLICE_BYTES, READ_BYTES, SLICE_BYTES, Leg, adopt
from tests.harness.waiting import eventually

SIZE = 20 * SLICE_BYTES + 17
BOTH_LOOPS = True
DATA = bytes(number % 251 for number in range(SIZE))

Pair: TypeAlias = tuple[Leg, socket.socket]


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    """A leg, and the other end of its socket."""
    near, far = socket.socketpair()
    far.setblocking(False)  # noqa: FBT003 the socket module takes it by position
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        near.setsockopt(socket.SOL_SOCKET, option, 1_000_000)
        far.setsockopt(socket.SOL_SOCKET, option, 1_000_000)
    leg = Leg()
    await adopt(leg, near)
    yield leg, far
    leg.transport.abort()
    far.close()
    await leg.closed


class Heard:
    """What a leg's sink and its end were called with."""

    def __init__(self, leg: Leg) -> None:
        self.parts: list[bytes] = []
        self.ends: list[int] = []
        self.faults: list[Exception] = []
        leg.relay_to(self.parts.append, lambda: self.ends.append(self.size), self.faults.append)

    @property
    def size(self) -> int:
        """Bytes so far."""
        return sum(map(len, self.parts))


async def test_chunk_is_handed_on_in_slices(pair: Pair) -> None:
    """One large read becomes slices, in order and complete."""
    leg, _ = pair
    heard = Heard(leg)
    leg.data_received(DATA)
    await eventually(lambda: heard.size == SIZE)
    assert b"".join(heard.parts) == DATA
    assert max(map(len, heard.parts)) == SLICE_BYTES


async def test_small_chunk_is_handed_on_at_once(pair: Pair) -> None:
    """The hot path: no turn, no copy."""
    leg, _ = pair
    heard = Heard(leg)
    data = b"x" * FIRST_SLICE_BYTES
    leg.data_received(data)
    assert heard.parts[0] is data


async def test_others_get_their_turn(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two slices that take long, whatever else is due is done; and the next one is half as long."""
    leg, _ = pair
    monkeypatch.setattr(leg_module, "TURN_S", 0)
    heard = Heard(leg)
    leg.data_received(DATA)
    seen = []
    while heard.size < SIZE:
        seen.append(heard.size)
        await asyncio.sleep(0)
    sizes = list(map(len, heard.parts))
    assert seen == list(itertools.accumulate(sizes))[:-1]
    assert sizes[:-1] == [max(FIRST_SLICE_BYTES >> number, LEAST_SLICE_BYTES) for number in range(len(sizes) - 1)]


async def test_no_leg_reads_on_without_end(pair: Pair) -> None:
    """Behind a full read the others have their turn, before the next one of the same leg: more is not even taken."""
    if not isinstance(asyncio.get_running_loop(), uvloop.Loop):
        pytest.skip("asyncio's own loop reads once in a round, at most 256 KiB")
    leg, far = pair
    heard = Heard(leg)
    far.send(DATA)
    turns = 0
    while heard.size < SIZE:
        turns += 1
        await asyncio.sleep(0)
    assert max(map(len, heard.parts)) == READ_BYTES
    assert turns >= SIZE // READ_BYTES


async def test_a_slice_grows_again(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where slices take no time, they are as long as can be."""
    leg, _ = pair
    monkeypatch.setattr(leg_module, "TURN_S", 0)
    heard = Heard(leg)
    leg.data_received(DATA)
    await eventually(lambda: heard.size == SIZE)
    assert len(heard.parts[-2]) == LEAST_SLICE_BYTES
    monkeypatch.setattr(leg_module, "TURN_S", 1_000)
    heard.parts.clear()
    leg.data_received(DATA)
    await eventually(lambda: heard.size == SIZE)
    assert len(heard.parts[-2]) == SLICE_BYTES


async def test_what_comes_meanwhile_keeps_its_place(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """More data while slices are waiting goes behind them."""
    leg, _ = pair
    monkeypatch.setattr(leg_module, "TURN_S", 0)
    heard = Heard(leg)
    leg.data_received(DATA)
    leg.data_received(b"behind")
    await eventually(lambda: heard.size == SIZE + 6)
    assert b"".join(heard.parts) == DATA + b"behind"


async def test_nothing_for_a_peer_that_cannot_take_it(pair: Pair) -> None:
    """Held in the middle of a chunk, the rest waits; then it goes on, and reading too."""
    leg, far = pair
    parts: list[bytes] = []

    def sink(data: bytes) -> None:
        parts.append(data)
        if len(parts) == 3:
            leg.pause()

    leg.relay_to(sink, lambda: None, lambda _: None)
    leg.data_received(DATA)
    far.send(b"behind")
    await asyncio.sleep(0.02)  # Time enough for what must not happen.
    assert len(parts) == 3
    leg.resume()
    await eventually(lambda: sum(map(len, parts)) == SIZE + 6)
    assert b"".join(parts) == DATA + b"behind"


async def test_resumed_within_the_sink(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that is full and free again within one write: no slice comes twice or out of order."""
    leg, _ = pair
    monkeypatch.setattr(leg_module, "TURN_S", 0)
    parts: list[bytes] = []

    def sink(data: bytes) -> None:
        parts.append(data)
        leg.pause()
        leg.resume()

    leg.relay_to(sink, lambda: None, lambda _: None)
    leg.data_received(DATA)
    await eventually(lambda: sum(map(len, parts)) == SIZE)
    assert b"".join(parts) == DATA


async def test_end_is_told_behind_the_last_slice(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that ends with slices waiting is handed on whole before its end is told, once."""
    leg, far = pair
    monkeypatch.setattr(leg_module, "TURN_S", 0)
    heard = Heard(leg)
    leg.data_received(DATA)
    leg.eof_received()
    assert not leg.ended
    await eventually(lambda: heard.ends)
    assert heard.ends == [SIZE]
    far.close()
    leg.transport.abort()
    await leg.closed
    assert heard.ends == [SIZE]


async def test_connection_lost_with_slices_waiting(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """What had arrived is handed on; a peer that is stuck is not waited for."""
    leg, _ = pair
    monkeypatch.setattr(leg_module, "TURN_S", 0)
    heard = Heard(leg)
    leg.data_received(DATA)
    leg.transport.abort()
    await leg.closed
    assert heard.ends == [SIZE]


async def test_connection_lost_while_held(pair: Pair) -> None:
    """The end is told at once."""
    leg, _ = pair
    heard = Heard(leg)
    leg.pause()
    leg._chunk = DATA
    leg.transport.abort()
    await leg.closed
    assert heard.ends == [0]


async def test_end_before_the_relay(pair: Pair) -> None:
    """Data and the end of the stream that came before the relay began are told in this order."""
    leg, far = pair
    far.sendall(b"x" * 50_000)
    far.shutdown(socket.SHUT_WR)
    await eventually(lambda: leg.ended)
    heard = Heard(leg)
    await eventually(lambda: heard.ends)
    assert heard.ends == [50_000]


async def test_each_cause_to_wait_counts(pair: Pair) -> None:
    """Nothing is handed on, nor read, before the last one has gone."""
    leg, far = pair
    heard = Heard(leg)
    leg.pause()
    leg.pause(CROWDED)
    far.sendall(b"a")
    leg.resume()
    await asyncio.sleep(0.02)  # Time enough for what must not happen.
    assert heard.parts == []
    leg.pause()
    leg.resume(CROWDED)
    await asyncio.sleep(0.02)  # As above.
    assert heard.parts == []
    leg.resume()
    await eventually(lambda: b"".join(heard.parts) == b"a")


async def test_discard_forgets_what_waits(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """After it, no slice is handed on."""
    leg, _ = pair
    monkeypatch.setattr(leg_module, "TURN_S", 0)
    heard = Heard(leg)
    leg.data_received(DATA)
    leg.discard()
    await asyncio.sleep(0.02)  # Time enough for what must not happen.
    assert heard.size == FIRST_SLICE_BYTES


async def test_fault_in_the_sink(pair: Pair) -> None:
    """It is reported, and does not break the transport."""
    leg, _ = pair
    faults: list[Exception] = []

    def sink(_data: bytes) -> None:
        leg.discard()
        raise ZeroDivisionError

    leg.relay_to(sink, lambda: None, faults.append)
    leg.data_received(DATA)
    assert [type(fault) for fault in faults] == [ZeroDivisionError]
    assert not leg.transport.is_closing()
