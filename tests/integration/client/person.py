"""Running the command as a person does: a process of its own, in an environment of its own, on pipes or a terminal."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.harness.terminal import on_terminal

PYTHON = sys.executable
REPOSITORY = Path(__file__).resolve().parents[3]
WITHIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody at a shell: `run` gives the command to pipes, `on_terminal` to a terminal."""

    home: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the tests' own environment but what finds Python and the system's programs."""
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        own = {"HOME": str(self.home), "LANG": "C.UTF-8", "PYTHONPATH": str(REPOSITORY), "TERM": "xterm-256color"}
        return kept | own | self.variables

    def run(self, *arguments: str, text: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        """The command's end, with `text` as its input and further variables."""
        return subprocess.run(
            command(*arguments),
            env=self.environment | variables,
            cwd=self.home,
            input=text,
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )

    def ok(self, *arguments: str, text: str = "", **variables: str) -> str:
        """The command's stdout; it has to succeed."""
        done = self.run(*arguments, text=text, **variables)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *arguments: str, text: str = "", **variables: str) -> str:
        """The command's stderr; it has to fail, in words."""
        done = self.run(*arguments, text=text, **variables)
        assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stderr

    def on_terminal(
        self,
        *arguments: str,
        answers: Mapping[str, str] | None = None,
        act: Callable[[str], None] | None = None,
        columns: int = 100,
        **variables: str,
    ) -> tuple[int, str]:
        """Exit code and everything on the screen. Each of `answers` is typed once its prompt is there."""
        size = {"COLUMNS": str(columns), "LINES": "40"}
        return on_terminal(
            command(*arguments), self.environment | size | variables, answers or {}, folder=self.home, act=act
        )


def command(*arguments: str) -> list[str]:
    """The command line of `curfew`."""
    return [PYTHON, "-m", "control.client.cli", *arguments]
