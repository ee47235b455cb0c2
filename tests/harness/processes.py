"""Processes that tests start: their output is collected, and they always end, whatever the test does."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.harness.waiting import eventually_sync

STOP_S = 10.0
_CHUNK = 65_536
_REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user of the machine that a process is to run as."""

    uid: int
    gid: int


def unprivileged() -> Account | None:
    """Whom to run programs as that refuse root: `nobody` (else `postgres`) where this process is root, else itself."""
    if os.getuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in ("nobody", "postgres"):
        if name in known:
            return Account(uid=known[name].pw_uid, gid=known[name].pw_gid)
    raise RuntimeError("running as root, and there is neither `nobody` nor `postgres` to run PostgreSQL as")


def _dying_with_us() -> list[str]:
    """What to put before a command so that the kernel kills it once the thread that started it is gone.

    A test run that is killed cannot end anything itself. PR_SET_PDEATHSIG, prctl(2); where setpriv (util-linux) is
    missing, the processes of such a run outlive it.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


class Process:
    """A running program, in a process group of its own. As a context manager it is ended on the way out."""

    def __init__(
        self,
        arguments: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        account: Account | None = None,
    ) -> None:
        """Start `arguments` as `account`; `environment` is laid over this process's own."""
        self.name = Path(arguments[0]).name
        # A file and no pipe: what the process has said before it answered a test is there when the test asks.
        self._written = tempfile.TemporaryFile()  # noqa: SIM115 it goes with this object:
        weakref.finalize(self, self._written.close)
        self._output = bytearray()
        self._process = subprocess.Popen(
            [*_dying_with_us(), *(str(argument) for argument in arguments)],
            env={**os.environ, **(environment or {})},
            cwd=folder or _REPOSITORY,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            stdin=subprocess.DEVNULL,
            stdout=self._written,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    @property
    def output(self) -> str:
        """What it has written so far, both streams."""
        # Not by read: the file's position is the process's own.
        while chunk := os.pread(self._written.fileno(), _CHUNK, len(self._output)):
            self._output += chunk
        return self._output.decode(errors="replace")

    def wait_for_output(self, text: str, *, within: float = 20.0) -> str:
        """The output, once `text` is in it. Fails at once where the process ends without having said it."""
        eventually_sync(lambda: text in self.output or not self.running, within=within, what=f"{self.name}: {text!r}")
        assert text in self.output, (
            f"{self.name} ended ({self._process.returncode}) before it said {text!r}:\n{self.output}"
        )
        return self.output

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself."""
        self._process.send_signal(number)

    def wait(self, *, within: float = STOP_S) -> int:
        """Its exit status, once it has ended by itself."""
        return self._process.wait(within)

    def stop(self, *, within: float = STOP_S) -> int:
        """SIGTERM; SIGKILL to its whole group where that is not enough. Returns the exit status."""
        if self.running:
            self.signal(signal.SIGTERM)
        try:
            return self.wait(within=within)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """SIGKILL to its whole group, at once."""
        if self.running:
            os.killpg(self.pid, signal.SIGKILL)
        return self._process.wait(STOP_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def run(
    arguments: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    account: Account | None = None,
    text: str = "",
    within: float = 60.0,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end with `text` as its input. With `check`, failing is an AssertionError with its output."""
    done = subprocess.run(
        [str(argument) for argument in arguments],
        env={**os.environ, **(environment or {})},
        cwd="/",
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        input=text,
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
    )
    assert not check or done.returncode == 0, f"{arguments} gave {done.returncode}:\n{done.stdout}{done.stderr}"
    return done
