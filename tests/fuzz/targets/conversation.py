"""The tracker between a client who may ask for anything and an honest server: its records are true.

The server is a model of PostgreSQL (`tests.unit.proxy.wire.model`), the client an author who makes every decision by
the input's next byte. Nothing runs before its text is in a record, and each statement has one start and one end, with
the text that ran, its tags and its error.
"""

from collections.abc import Sequence
from random import Random
from typing import TypeVar, cast

from tests.fuzz.mutations import mutate_bytes
from tests.unit.proxy.wire import test_tracker_model as conversations

T = TypeVar("T")
mutate = mutate_bytes


class Decisions:
    """In the place of chance: bytes, one a decision; the first of all choices where they are used up."""

    def __init__(self, data: bytes) -> None:
        self._bytes = iter(data)

    def randrange(self, start: int, stop: int | None = None) -> int:
        """As random.randrange; of more than 256 numbers, the first ones."""
        first, last = (0, start) if stop is None else (start, stop)
        return first + next(self._bytes, 0) % (last - first)

    def choice(self, choices: Sequence[T]) -> T:
        """As random.choice."""
        return choices[self.randrange(len(choices))]


def check(data: bytes) -> None:
    """Have the conversation, with COPY FROM or without."""
    copies = bool(data[:1]) and data[0] % 2 == 1
    author = conversations.Author(0, copies=copies)
    author.random = cast("Random", Decisions(data[1:]))
    book, model = conversations.run(author.conversation())
    if copies:
        assert (book.tracker.fatal is not None) == model.over or book.tracker.lost
    else:
        assert not book.tracker.busy
        assert book.tracker.state == model.state
    conversations.check(book, model)
