"""A client that says whatever the protocol has, in any order, with errors: hypothesis makes its conversations.

Each text that it sends has a number of its own, so that no two statements are taken for each other.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from hypothesis import strategies as st

from tests.harness.wire import (
    COPY_DONE,
    FLUSH,
    SYNC,
    TERMINATE,
    Wire,
    bind,
    execute,
    message,
    parse,
    query,
)

NAMES = ("", "", "a", "b", "é" * 40)
"""Of statements and portals; the last one is longer than PostgreSQL's names."""
TEXTS = (
    "SELECT {n}",
    "SELECT {n}, generate_series(1, 4)",
    "SELECT $1::int + {n}",
    "SELECT $1::text, $2::int /* {n} */",
    "SELECT {n} / 0",
    "SELEC {n}",
    "SELECT missing{n}",
    "INSERT INTO t VALUES ({n}) RETURNING n",
    "INSERT INTO d VALUES (1), (1) -- {n}",
    "BEGIN -- {n}",
    "COMMIT -- {n}",
    "ROLLBACK -- {n}",
    "SAVEPOINT s -- {n}",
    "ROLLBACK TO s -- {n}",
    "-- {n}",
    "",
    "SHOW work_mem -- {n}",
    "CREATE TEMP TABLE x{n} (n int)",
    "DEALLOCATE a -- {n}",
    "DISCARD ALL -- {n}",
    "PREPARE b AS SELECT {n}",
    "DECLARE a CURSOR WITH HOLD FOR SELECT {n}",
    "SELECT 'Zoë €', 'a\\b', {n}",
)
SEVERAL = "SELECT {n}; SELECT '{n}; ' ; INSERT INTO t VALUES ({n})"
FAILING = "SELECT {n}; SELECT {n} / 0; SELECT {n}"
FUNCTIONS = (2026, 1299, 1, 4_000_000_000)
"""pg_backend_pid, now, one that takes arguments, none at all."""
SETUP = (
    "CREATE TABLE IF NOT EXISTS t (n int); CREATE TABLE IF NOT EXISTS c (n int, x text);"
    "CREATE TABLE IF NOT EXISTS d (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)"
)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do: its kind, and what it is done with."""

    kind: str
    name: str = ""
    other: str = ""
    text: str = ""
    values: tuple[str | None, ...] = ()
    number: int = 0


Conversation: TypeAlias = list[Step]

_name = st.sampled_from(NAMES)
_text = st.sampled_from(TEXTS)
_value = st.sampled_from(["1", "-2", None, "it's", "Zoë \\ \n", ""])
_wholes = st.builds(
    Step, st.just("whole"), _name, _name, _text, st.lists(_value, max_size=2).map(tuple), st.integers(0, 3)
)
_steps = st.one_of(
    _wholes,
    _wholes,
    _wholes,
    st.builds(Step, st.just("parse"), _name, text=_text),
    st.builds(Step, st.just("bind"), _name, _name, values=st.lists(_value, max_size=2).map(tuple)),
    st.builds(Step, st.just("execute"), _name, number=st.integers(0, 3)),
    st.builds(Step, st.just("execute"), _name, number=st.integers(0, 3)),
    st.builds(Step, st.just("describe"), _name, st.sampled_from("SP")),
    st.builds(Step, st.just("close"), _name, st.sampled_from("SP")),
    st.just(Step("flush")),
    st.just(Step("sync")),
    st.just(Step("sync")),
    st.just(Step("settle")),
    st.builds(Step, st.just("query"), text=st.sampled_from((*TEXTS, SEVERAL, FAILING))),
    st.builds(Step, st.just("function"), number=st.sampled_from(FUNCTIONS)),
    st.builds(Step, st.just("copy in"), number=st.integers(0, 4)),
    st.builds(Step, st.just("copy out"), number=st.integers(0, 4)),
)
conversations: st.SearchStrategy[Conversation] = st.lists(_steps, min_size=1, max_size=40)
_numbers = itertools.count(1)


def said(step: Step) -> bytes:
    """What a step says."""
    return _SAID[step.kind](step, step.text.format(n=next(_numbers)))


def _whole(step: Step, text: str) -> bytes:
    values = (*step.values, "1", "2")[: text.count("$")]  # as many as there should be; `bind` sees to the others
    return parse(text, step.name) + bind(*values, name=step.name, portal=step.other) + execute(step.other, step.number)


_SAID: Mapping[str, Callable[[Step, str], bytes]] = {
    "whole": _whole,
    "parse": lambda step, text: parse(text, step.name),
    "bind": lambda step, _: bind(*step.values, name=step.name, portal=step.other),
    "execute": lambda step, _: execute(step.name, step.number),
    "describe": lambda step, _: message("D", f"{step.other}{step.name}\0".encode()),
    "close": lambda step, _: message("C", f"{step.other}{step.name}\0".encode()),
    "function": lambda step, _: message("F", step.number.to_bytes(4) + b"\0" * 6),
    "query": lambda _, text: query(text),
    "flush": lambda _, __: FLUSH,
    "sync": lambda _, __: SYNC,
}


async def hold(wire: Wire, steps: Conversation) -> None:
    """Say all of it, and leave when everything is answered."""
    for step in steps:
        if step.kind == "settle" or step.kind.startswith("copy"):
            await _settle(wire)
        if step.kind.startswith("copy"):
            await _copy(wire, step)
        elif step.kind != "settle":
            wire.send(said(step))
    await _settle(wire)
    wire.send(TERMINATE)
    await wire.rest()


_CONFUSED = "XX000"
"""PostgreSQL 18 says so behind a Query in the middle of a pipeline: "StartTransactionCommand: unexpected state"."""


async def _settle(wire: Wire) -> None:
    """Wait until everything is answered. A syntax error is answered as such in every state of a transaction."""
    wire.send(SYNC + query(mark := f"settled{next(_numbers)}"))
    while not ((said := await wire.read()).kind == "E" and mark in said.fields["M"]):
        if said.kind == "E" and said.fields["C"] == _CONFUSED:
            wire.send(query(mark := f"settled{next(_numbers)}"))
    await wire.until("Z")


_COPY_TEXTS = {"copy in": "COPY c FROM STDIN", "copy out": "COPY (SELECT generate_series(1, 9)) TO STDOUT"}


async def _copy(wire: Wire, step: Step) -> None:
    """COPY by a Query or an Execute: data, and then its end, a failure, or a line that PostgreSQL does not take."""
    wire.send(query(f"ROLLBACK -- {next(_numbers)}"))
    await wire.until("Z")
    text = f"{_COPY_TEXTS[step.kind]} -- {next(_numbers)}"
    extended = step.number >= _EXTENDED
    wire.send(parse(text) + bind() + execute() + FLUSH if extended else query(text))
    if step.kind == "copy in":
        await wire.until("G")
        data, end = _COPY_ENDS[step.number]
        wire.send(message("d", data) * 3 + end)
    wire.send(SYNC if extended else b"")
    await wire.until("Z")


_EXTENDED = 3
_COPY_ENDS = (
    (b"1\tx\n", COPY_DONE),
    (b"1\tx\n", message("f", b"no more\0")),
    (b"x\tx\n", COPY_DONE),
    (b"1\tx\n", COPY_DONE),
    (b"1\tx\n", message("f", b"no more\0")),
)
