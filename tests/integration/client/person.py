"""Running the command as a person does: a process of its own, in an environment of its own, on pipes or a terminal."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

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
        return _on_terminal(
            command(*arguments), self.environment | size | variables, self.home, dict(answers or {}), act
        )


def command(*arguments: str) -> list[str]:
    """The command line of `curfew`."""
    return [PYTHON, "-m", "control.client.cli", *arguments]


TAKE_TERMINAL = "import os, sys; os.open(os.ttyname(0), os.O_RDWR); os.execv(sys.argv[1], sys.argv[1:])"
"""A session's leader gets the first terminal that it opens as its own, and with it Ctrl-C (tty_ioctl(4))."""


def _on_terminal(
    line: list[str],
    environment: dict[str, str],
    folder: Path,
    answers: dict[str, str],
    act: Callable[[str], None] | None,
) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [PYTHON, "-c", TAKE_TERMINAL, *line],
        env=environment,
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        screen = ""
        for screen in _screens(ours):
            for prompt in [prompt for prompt in answers if prompt in screen]:
                os.write(ours, answers.pop(prompt).encode())
            if act is not None:
                act(screen)
        return process.wait(WITHIN_S), screen
    finally:
        os.close(ours)
        process.kill()
        process.wait()


def _screens(terminal: int) -> Iterator[str]:
    """What the screen has shown so far, each time that it has changed, until the terminal is closed."""
    shown, deadline = b"", time.monotonic() + WITHIN_S
    while select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
        try:
            chunk = os.read(terminal, 65_536)
        except OSError:  # Linux says EIO where nobody has the other end any more
            return
        shown += chunk
        yield shown.decode(errors="replace")
    pytest.fail(f"nothing more came for {WITHIN_S} s: {shown!r}")
