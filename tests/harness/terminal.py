"""A program on a terminal of its own: what it shows, and what is typed."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

WITHIN_S = 60.0
TAKE_TERMINAL = "import os, sys; os.open(os.ttyname(0), os.O_RDWR); os.execv(sys.argv[1], sys.argv[1:])"
"""A session's leader gets the first terminal that it opens as its own, and with it Ctrl-C (tty_ioctl(4))."""


def on_terminal(
    line: Sequence[str],
    environment: Mapping[str, str],
    answers: Mapping[str, str],
    *,
    folder: Path | None = None,
    act: Callable[[str], None] | None = None,
) -> tuple[int, str]:
    """Exit code and everything on the screen. Each of `answers` is typed once its prompt is there."""
    left = dict(answers)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE_TERMINAL, *line],
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
            for prompt in [prompt for prompt in left if prompt in screen]:
                os.write(ours, left.pop(prompt).encode())
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
