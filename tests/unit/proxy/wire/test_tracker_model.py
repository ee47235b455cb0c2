"""The tracker against a tiny PostgreSQL: whatever is asked, in whatever pieces, the records tell what that one ran.

Conversations are made from seeds: made by hypothesis they took a second each. A seed that fails is a test to keep.
"""

from random import Random
from typing import TypeAlias

import pytest

from proxy.contract.record import StatementEnd, StatementPrepare, StatementStart
from tests.unit.proxy.wire import playbook as say
from tests.unit.proxy.wire.model import Asked, Model
from tests.unit.proxy.wire.playbook import Playbook, Turn

SEEDS = 300
LONG = "n" * 63
STATEMENTS = ["", "s", "s", f"{LONG}1", f"{LONG}2"]
PORTALS = ["", "p", "p", f"{LONG}1", f"{LONG}2"]
WORDS = [
    *["ok"] * 8,
    "bad",
    "nonsense",
    *["begin", "savepoint", "back"] * 2,
    "commit",
    "rollback",
    "copyout",
    "deferred",
]
BY_SQL = ["execute s", "fetch p", f"execute {LONG}", f"fetch {LONG}"]
COPIES = ["copyin", "copyin", "copyfail"]
COPY_PARTS = [say.copy_data(b"1"), say.SYNC, say.FLUSH]
COPY_ENDS = [*[[say.COPY_DONE]] * 4, [say.copy_fail()], []]
COPY_STARTS = [
    [say.query("copyin")],
    [say.query("copyin; ok; copyin; bad")],
    [say.parse("copyin"), say.bind(), say.execute()],
    [say.parse("copyin"), say.bind(), say.execute(), say.SYNC],
    [say.parse("copyfail"), say.bind(), say.execute(), say.SYNC],
    [],
]

Said: TypeAlias = list[tuple[list[bytes], int, int]]
"""Messages; then how many of those that wait PostgreSQL reads, and where its answers are cut."""


class Author:
    """Makes up a conversation."""

    def __init__(self, seed: int, *, copies: bool) -> None:
        self.random = Random(seed)
        self.copies = copies

    def conversation(self) -> Said:
        """Some rounds, and a Sync that is read to the end."""
        pick = self.random.choice
        steps = [
            (self.round(), pick([0, 0, 1, 3, 1_000, 1_000]), self.random.randrange(60))
            for _ in range(self.random.randrange(1, 20))
        ]
        return [*steps, ([say.SYNC], 1_000, 0)]

    def round(self) -> list[bytes]:
        """Messages up to a ReadyForQuery; now and then a round is left open for what comes next."""
        pick = self.random.choice
        what = pick(["simple", "function", *["extended"] * 4, *(["copy"] * 3 if self.copies else [])])
        if what == "simple":
            return [say.query("; ".join(self.sql() for _ in range(self.random.randrange(1, 4))))]
        if what == "function":
            return [say.function(1)]
        if what == "copy":
            parts = [pick(COPY_PARTS) for _ in range(self.random.randrange(5))]
            return [*pick(COPY_STARTS), *parts, *pick(COPY_ENDS), *pick([[], [say.SYNC]])]
        parts = [one for _ in range(self.random.randrange(1, 5)) for one in self.extended()]
        return [*parts, *pick([*[[say.SYNC]] * 5, []])]

    def sql(self) -> str:
        """A statement of the model's, with a number that tells one text from another."""
        word = self.random.choice([*WORDS, *BY_SQL, *(COPIES if self.copies else [])])
        return f"{word} -- {self.random.randrange(1_000)}"

    def extended(self) -> list[bytes]:
        """Messages of the extended protocol, the likely ones together."""
        pick = self.random.choice
        sql, name, portal = self.sql(), pick(STATEMENTS), pick(PORTALS)
        bad = pick([(), (), (), ("1",)])  # the model's statements take no values
        return pick(
            [
                [say.parse(sql, name)],
                [say.parse(sql), say.bind(), say.execute()],
                [say.parse(sql), say.bind(portal=portal), say.execute(portal, 1)],
                [say.parse(sql), say.bind(portal=portal)],
                [say.bind(portal=portal, statement=name), say.execute(portal)],
                [say.bind(*bad, portal=portal, statement=name)],
                [say.execute(portal, pick([0, 1]))],
                [say.close_statement(name)],
                [say.close_portal(portal)],
                [say.describe_statement(name)],
                [say.describe_portal(portal)],
            ]
        )


def run(conversation: Said) -> tuple[Playbook, Model]:
    """Play it to both. Nothing runs before its text is in a record."""
    book, model, waiting = Playbook(), Model(), list[bytes]()
    for said, reads, cut in conversation:
        book.take(Turn(by_client=True, data=b"".join(said)))
        waiting += said
        recorded = {text for record in book.records for text in shown(record)}
        answers = b"".join(model.take(one[:1], one[5:]) for one in waiting[:reads])
        assert set(model.ran) <= recorded
        del waiting[:reads]
        book.take(Turn(by_client=False, data=answers[:cut]), Turn(by_client=False, data=answers[cut:]))
    book.close()
    return book, model


def shown(record: object) -> list[str]:
    """The texts that a record shows."""
    return record.sql.split("; ") if isinstance(record, StatementStart | StatementPrepare) else []


def check(book: Playbook, model: Model) -> None:
    """Each statement has one start and one end, in order, and they are true."""
    starts = [one for one in book.records if isinstance(one, StatementStart)]
    ends = [one for one in book.records if isinstance(one, StatementEnd)]
    numbers = list(range(1, len(model.asked) + 1))
    assert [one.statement for one in starts] == numbers
    assert [one.statement for one in ends] == numbers
    for asked, start, end in zip(model.asked, starts, ends, strict=True):
        assert start.kind == asked.kind
        if not (book.tracker.lost and end.state is None):
            check_end(asked, start, end, over=model.over)
        else:
            assert end.tags in ([], asked.tags)
            assert not end.skipped


def check_end(asked: Asked, start: StatementStart, end: StatementEnd, *, over: bool) -> None:
    """What ran, its tags and its error. A fault before it may be its own error, where it was sent in time."""
    assert end.tags == asked.tags, (asked, end)
    if asked.skipped and not over:
        assert (end.sqlstate, end.skipped, end.ran) in [(None, True, None), (asked.blamed, False, None)], (asked, end)
    elif not over:
        assert (end.sqlstate, end.skipped) == (asked.sqlstate, False), (asked, end)
    if asked.text is not None and asked.kind == "execute":
        assert (start.sql if end.ran is None else end.ran.sql) == asked.text, (asked, start, end)


@pytest.mark.parametrize("part", range(4))
def test_any_conversation(part: int) -> None:
    """Without COPY FROM: nothing is left open either, and the state is the server's."""
    for seed in range(part * SEEDS, (part + 1) * SEEDS):
        book, model = run(Author(seed, copies=False).conversation())
        assert not book.tracker.busy, seed
        assert book.tracker.state == model.state, seed
        check(book, model)


@pytest.mark.parametrize("part", range(4))
def test_any_conversation_with_copy(part: int) -> None:
    """With COPY FROM, Syncs and all: even where a statement inside it ends the session."""
    for seed in range(part * SEEDS, (part + 1) * SEEDS):
        book, model = run(Author(seed, copies=True).conversation())
        assert (book.tracker.fatal is not None) == model.over or book.tracker.lost, seed
        check(book, model)
