"""The time that a refusal takes: the same for every cause, so that nobody learns the cause from a clock.

Owns a clock's arithmetic, and nothing of why somebody is refused. It hides what the proxy does within one of its steps
(a signature checked or not, a record written or not), as OpenSSH's `ensure_minimum_time_since` does in auth2.c; it also
slows guessing down. It is never in the way of who is let in.
"""

import asyncio
import math
import time

STEP_S = 0.05
"""Refusals come at whole steps from the moment when the token was there. The work takes a hundredth of one; where a
busy machine needs longer, the answer waits for the next one."""


def due(since: float, now: float) -> float:
    """The first whole step after `since` that is later than `now`."""
    steps = math.floor(max(0.0, now - since) / STEP_S) + 1
    return since + steps * STEP_S


async def until_due(since: float) -> None:
    """Wait for it; `since` is a time of time.monotonic()."""
    now = time.monotonic()
    await asyncio.sleep(due(since, now) - now)
