"""Telling a play: each step with a check mark and its time, what was seen, and for a failed one why and the logs' ends.

Knows nothing of what is played.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOG_LINES = 15
GREEN, RED, DIM, PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[0m"


class StepFailedError(Exception):
    """A step does not hold. It has been told already."""


class Step:
    """What a step has to say once it holds."""

    def __init__(self) -> None:
        self.found = ""
        """In a few words, what was seen."""
        self._shown: list[str] = []

    def show(self, text: str) -> None:
        """Have `text`, usually what a program printed, stand below the step."""
        self._shown += text.rstrip().splitlines()

    @property
    def shown(self) -> list[str]:
        """The lines to stand below the step."""
        return self._shown


class Play:
    """One telling. `logs` gives the ends of the running parts' logs, by their names."""

    def __init__(self) -> None:
        self.logs: dict[str, Callable[[], str]] = {}
        self.held = 0
        self._coloured = sys.stdout.isatty()
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr] # a terminal without UTF-8

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Do a step within. What it raises is told here, and becomes StepFailedError."""
        began, step = time.monotonic(), Step()
        try:
            yield step
        except Exception as error:
            self._tell("✗", RED, began, title)
            self._below([*step.shown, *f"{type(error).__name__}: {error}".splitlines()])
            self._tell_logs()
            raise StepFailedError(title) from error
        self.held += 1
        self._tell("✓", GREEN, began, f"{title}: {step.found}" if step.found else title)
        self._below(step.shown)

    def say(self, text: str = "") -> None:
        """A line between the steps."""
        print(text, flush=True)  # noqa: T201 it is what the demo is for

    def _tell(self, mark: str, colour: str, began: float, title: str) -> None:
        self.say(f"{self._in(colour, mark)} {time.monotonic() - began:5.1f} s  {title}")

    def _below(self, lines: list[str]) -> None:
        for line in lines:
            self.say(self._in(DIM, f"           | {line}"))

    def _tell_logs(self) -> None:
        for name, read in self.logs.items():
            if lines := read().splitlines()[-LOG_LINES:]:
                self.say(f"the end of {name}'s log:")
                self._below(lines)

    def _in(self, colour: str, text: str) -> str:
        return f"{colour}{text}{PLAIN}" if self._coloured else text
