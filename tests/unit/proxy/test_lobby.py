"""The lobby: whoever is silent does not keep others out, and an address keeps out its own first."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from proxy.lobby import Lobby
from proxy.metrics import Metrics
from proxy.tasks import spawn


class Guests:
    """A lobby and the connections in it, which wait for ever."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.lobby = Lobby(self.metrics)
        self.tasks: list[asyncio.Task[None]] = []

    def enter(self, address: str | None, *, limit: int = 3, limit_per_address: int = 2) -> asyncio.Task[None]:
        """One more."""
        task = spawn(f"guest from {address}", asyncio.Event().wait())
        self.tasks.append(task)  # type: ignore[arg-type]
        self.lobby.enter(task, address, limit=limit, limit_per_address=limit_per_address)
        return self.tasks[-1]

    async def dropped(self) -> list[int]:
        """Which were dropped, by their numbers."""
        for _ in range(3):
            await asyncio.sleep(0)
        return [number for number, task in enumerate(self.tasks) if task.cancelled()]


@pytest.fixture
async def guests() -> AsyncIterator[Guests]:
    """An empty lobby."""
    made = Guests()
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


async def test_a_full_lobby_drops_its_oldest_guest(guests: Guests) -> None:
    """The newcomer is in, and the loss is counted."""
    for address in ("a", "b", "c", "d"):
        guests.enter(address)
    assert await guests.dropped() == [0]
    assert len(guests.lobby) == 3
    assert guests.metrics.connections_refused == {"unauthenticated": 1}


async def test_an_address_pays_for_itself(guests: Guests) -> None:
    """At its own limit its own oldest goes, though another's is older and the lobby is full."""
    for address in ("a", "b", "b", "b"):
        guests.enter(address)
    assert await guests.dropped() == [1]
    assert guests.metrics.connections_refused == {"unauthenticated_per_address": 1}
    assert len(guests.lobby) == 3


async def test_who_leaves_makes_room(guests: Guests) -> None:
    """By a token, or by going; leaving twice counts once."""
    for address in ("a", "a", "b"):
        guests.enter(address)
    guests.lobby.leave(guests.tasks[0])
    guests.lobby.leave(guests.tasks[0])
    guests.tasks[1].cancel()
    assert await guests.dropped() == [1]
    assert len(guests.lobby) == 1
    guests.enter("a")
    guests.enter("a")
    assert await guests.dropped() == [1]
    assert not guests.metrics.connections_refused


async def test_who_has_shown_a_token_is_never_dropped(guests: Guests) -> None:
    """However many come later."""
    admitted = guests.enter("a")
    guests.lobby.leave(admitted)
    for _ in range(10):
        guests.enter("a")
    assert 0 not in await guests.dropped()


async def test_room_for_descriptors(guests: Guests) -> None:
    """The oldest one goes; an empty lobby has no room to make."""
    assert not guests.lobby.drop_oldest()
    guests.enter("a")
    guests.enter("b")
    assert guests.lobby.drop_oldest()
    assert await guests.dropped() == [0]
    assert guests.metrics.connections_refused == {"descriptors": 1}


async def test_limits_that_were_lowered(guests: Guests) -> None:
    """A reload with a lower limit takes nobody more than one for one, and lets the newcomer in."""
    for address in "abc":
        guests.enter(address)
    guests.enter("d", limit=1)
    assert await guests.dropped() == [0]
    assert not guests.tasks[3].done()


async def test_a_guest_whose_address_is_told_later(guests: Guests) -> None:
    """It counts for no address before, then for its own, and it keeps its place among the oldest."""
    late = [guests.enter(None) for _ in range(3)]
    assert await guests.dropped() == []
    guests.enter("a")
    for task in late:
        guests.lobby.identify(task, "a", limit_per_address=2)
    assert await guests.dropped() == [0, 1]
    guests.lobby.identify(late[0], "a", limit_per_address=2)
    assert len(guests.lobby) == 2
    assert guests.lobby.drop_oldest()
    assert await guests.dropped() == [0, 1, 2]
