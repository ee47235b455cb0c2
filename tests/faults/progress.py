"""How far a campaign is: a line to standard error now and then, so that nobody takes a long one for a dead one."""

import sys
import time
from collections.abc import Callable

EVERY_S = 30.0


def to_stderr(line: str) -> None:
    """Say it at once."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201 a command speaks to its caller


class Progress:
    """Counts the rounds of one campaign, and says at most every EVERY_S how many there were and what is left."""

    def __init__(
        self,
        name: str,
        rounds: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] = to_stderr,
    ) -> None:
        self._name = name
        self._rounds = rounds
        self._clock = clock
        self._say = say
        self._done = 0
        self._began = self._said = clock()

    def step(self, found: str = "") -> None:
        """One more round is over; `found` is what there is to say of all of them."""
        self._done += 1
        now = self._clock()
        if now - self._said < EVERY_S:
            return
        self._said = now
        passed = now - self._began
        left = passed / self._done * (self._rounds - self._done)
        behind = f"; {found}" if found else ""
        self._say(f"{self._name}: {self._done} of {self._rounds} rounds in {_span(passed)}, {_span(left)} left{behind}")


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
