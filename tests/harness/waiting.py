"""Waiting until something is so, with a deadline: the only place in the tests that sleeps."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

Value = TypeVar("Value")

WITHIN_S = 10.0
_PAUSE_S = 0.01


class TooLateError(AssertionError):
    """What was waited for did not come."""


@overload
async def eventually(predicate: Callable[[], Awaitable[Value]], *, within: float = ..., what: str = ...) -> Value: ...


@overload
async def eventually(predicate: Callable[[], Value], *, within: float = ..., what: str = ...) -> Value: ...


async def eventually(predicate: Callable[[], object], *, within: float = WITHIN_S, what: str = "") -> object:
    """The first true value of `predicate` (a function, plain or async). Raises TooLateError after `within` seconds.

    The predicate is asked once more at the deadline, so that a slow machine's last moment counts.
    """
    deadline = time.monotonic() + within
    while True:
        late = time.monotonic() >= deadline
        answer = predicate()
        value: object = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if late:
            raise TooLateError(f"not within {within} s: {what or predicate}; last value: {value!r}")
        await asyncio.sleep(_PAUSE_S)


def eventually_sync(predicate: Callable[[], Value], *, within: float = WITHIN_S, what: str = "") -> Value:
    """As `eventually`, for code outside an event loop (fixtures, processes)."""
    deadline = time.monotonic() + within
    while True:
        late = time.monotonic() >= deadline
        value = predicate()
        if value:
            return value
        if late:
            raise TooLateError(f"not within {within} s: {what or predicate}; last value: {value!r}")
        time.sleep(_PAUSE_S)


async def never(predicate: Callable[[], object], *, during: float, what: str = "") -> None:
    """Watch for `during` seconds that `predicate` stays false. Raises AssertionError the moment it is true."""
    deadline = time.monotonic() + during
    while time.monotonic() < deadline:
        value = predicate()
        if value:
            raise AssertionError(f"happened: {what or predicate}: {value!r}")
        await asyncio.sleep(_PAUSE_S)
