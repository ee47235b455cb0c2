"""How long to wait before trying again: longer each time, up to a bound, and never in step with other proxies."""

import random


class Backoff:
    """The waits of one thing that is tried again and again."""

    __slots__ = ("_first_s", "_last_s", "_wait_s")

    def __init__(self, first_s: float, last_s: float) -> None:
        self._first_s = first_s
        self._last_s = last_s
        self._wait_s = first_s

    def next_s(self) -> float:
        """Seconds to wait now: between half of the present bound and the whole of it."""
        bound, self._wait_s = self._wait_s, min(self._last_s, 2 * self._wait_s)
        return bound * random.uniform(0.5, 1)  # noqa: S311 jitter, no secret

    def reset(self) -> None:
        """It went well: begin anew."""
        self._wait_s = self._first_s
