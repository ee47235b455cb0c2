"""The board: who has the fewest connections, over processes that map the same memory."""

import os
from collections.abc import Iterator

import pytest

from proxy import board
from proxy.board import AWAY, Board


@pytest.fixture
def boards() -> Iterator[tuple[Board, Board]]:
    """One of three workers, as two processes have it."""
    memory = board.create(3)
    made = Board(memory, 3), Board(memory, 3)
    os.close(memory)
    yield made
    for one in made:
        one.close()


def test_everybody_is_away_at_first(boards: tuple[Board, Board]) -> None:
    """Until they say otherwise; the first one to come has the fewest."""
    one, other = boards
    assert [other.accepts(number) for number in (1, 2, 3)] == [False] * 3
    one.show(2, 0)
    assert [other.accepts(number) for number in (1, 2, 3)] == [False, True, False]
    assert other.has_fewest(2)
    assert not other.has_fewest(1)


def test_the_fewest(boards: tuple[Board, Board]) -> None:
    """More than one may have it; who is away counts for nothing."""
    one, other = boards
    for number, connections in ((1, 5), (2, 4), (3, 4)):
        one.show(number, connections)
    assert [other.has_fewest(number) for number in (1, 2, 3)] == [False, True, True]
    one.show(2, AWAY)
    one.show(3, AWAY)
    assert other.has_fewest(1)
