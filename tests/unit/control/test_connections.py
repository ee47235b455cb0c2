"""Which connections are hung up on."""

import asyncio
from dataclasses import dataclass, field

from control.connections import MOST, SILENCE_S, Reaper, hang_up
from control.tasks import spawn


@dataclass(eq=False)
class Socket:
    """Knows whether it was aborted."""

    aborted: bool = False

    def abort(self) -> None:
        """Close it."""
        self.aborted = True


@dataclass(eq=False)
class Request:
    """One that is being answered, or was."""

    response_complete: bool = False


@dataclass(eq=False)
class Client:
    """One of uvicorn's connections."""

    transport: Socket | None = field(default_factory=Socket)
    cycle: Request | None = None

    @property
    def gone(self) -> bool:
        """Whether it was hung up on."""
        return self.transport is not None and self.transport.aborted


def test_silence_ends_a_connection() -> None:
    """Before its first request and after the last, but never while one is answered."""
    silent, busy, done = Client(), Client(cycle=Request()), Client(cycle=Request(response_complete=True))
    reaper = Reaper([silent, busy, done, Client(transport=None)])
    assert reaper.look(0) == 0
    assert reaper.look(SILENCE_S - 0.1) == 0
    reaper.look(SILENCE_S)
    assert (silent.gone, busy.gone, done.gone) == (True, False, True)


def test_a_request_begins_the_silence_anew() -> None:
    """It is counted from the answer."""
    client = Client()
    reaper = Reaper([client])
    reaper.look(0)
    client.cycle = Request()
    reaper.look(SILENCE_S)
    client.cycle.response_complete = True
    reaper.look(SILENCE_S + 1)
    reaper.look(2 * SILENCE_S)
    assert not client.gone
    reaper.look(2 * SILENCE_S + 1)
    assert client.gone


def test_too_many_are_thinned_out() -> None:
    """The longest silent first, and nobody who is answered."""
    old = [Client() for _ in range(5)]
    busy = [Client(cycle=Request()) for _ in range(MOST - 5)]
    connections = [*busy, *old]
    reaper = Reaper(connections)
    reaper.look(0)
    connections += [Client() for _ in range(3)]
    assert reaper.look(1) == 3
    assert [client.gone for client in old] == [True] * 3 + [False] * 2
    assert not any(client.gone for client in busy)


def test_nothing_is_remembered_of_who_has_left() -> None:
    """The memory is as large as the crowd."""
    connections = [Client()]
    reaper = Reaper(connections)
    reaper.look(0)
    connections.clear()
    reaper.look(1)
    assert not reaper._silent_since


async def test_the_end_waits_for_the_answers() -> None:
    """And for nobody's goodbye."""
    client, answered = Client(), asyncio.Event()

    async def answer() -> None:
        await answered.wait()

    ending = spawn("end", hang_up([client], {spawn("answer", answer())}))
    await asyncio.sleep(0)
    assert not client.gone
    answered.set()
    await ending
    assert client.gone
