"""What a case is. A new one is a coroutine function under `cases/`, with `@case` above it and a docstring in it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from tests.harness.wire import SYNC
from tests.oracle.talk import Talk

Script: TypeAlias = Callable[[Talk], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing that is said."""

    name: str
    about: str
    """Its docstring's first line."""
    script: Script


CASES: dict[str, Case] = {}
"""All cases by name, in the order in which they stand."""


def case(script: Script) -> Script:
    """Make `script` a case: `copy_of_nothing` becomes `copy-of-nothing`."""
    add(script.__name__.replace("_", "-"), (script.__doc__ or "").partition("\n")[0], script)
    return script


def add(name: str, about: str, script: Script) -> None:
    """Add a case that a table made."""
    assert name not in CASES, name
    CASES[name] = Case(name=name, about=about, script=script)


def up_to_sync(*data: bytes) -> Script:
    """These messages and a Sync, and whether the connection lives."""

    async def script(talk: Talk) -> None:
        await talk.log_in()
        talk.send(*data, SYNC)
        await talk.ready()
        await talk.alive()

    return script
