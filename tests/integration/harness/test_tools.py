"""Waiting, processes and ports: each ends as it says, and in time."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from tests.harness import journals
from tests.harness.ports import free_port
from tests.harness.proc import children, open_files, runs
from tests.harness.processes import Process, run
from tests.harness.waiting import TooLateError, eventually, eventually_sync, never

ROOT = Path(__file__).resolve().parents[3]


async def test_waiting_gives_the_value() -> None:
    """The first true one, from a plain function or an async one."""
    values = iter([0, 0, 5, 0, 6])
    assert await eventually(lambda: next(values)) == 5

    async def asked() -> int:
        return next(values)

    assert await eventually(asked) == 6
    assert eventually_sync(lambda: "now") == "now"


async def test_waiting_ends() -> None:
    """With what was waited for and the last value; the other tasks go on meanwhile."""
    seen: list[int] = []
    task = asyncio.get_running_loop().create_task(eventually(lambda: len(seen) > 2 and "three"))
    for number in range(3):
        seen.append(number)
        await asyncio.sleep(0)
    assert await task == "three"
    with pytest.raises(TooLateError, match="the moon; last value: 0"):
        await eventually(lambda: 0, within=0.05, what="the moon")
    with pytest.raises(TooLateError):
        eventually_sync(lambda: False, within=0.05)


async def test_never() -> None:
    """Passes when nothing happened, fails the moment that something does."""
    await never(lambda: False, during=0.05)
    with pytest.raises(AssertionError, match="happened: rain"):
        await never(lambda: True, during=10, what="rain")


def test_a_process_says_and_ends() -> None:
    """Its output is collected, both streams; SIGTERM is enough for most."""
    with Process(["sh", "-c", "echo one; echo two >&2; exec sleep 60"]) as process:
        assert "one" in process.wait_for_output("one")
        process.wait_for_output("two")
        assert process.running
        assert process.stop() == -signal.SIGTERM
    assert not process.running


def test_a_process_that_will_not_end_is_killed(tmp_path: Path) -> None:
    """With its children: SIGKILL goes to the whole group."""
    script = "trap '' TERM; sleep 60 & echo $! > child; echo ready; while :; do wait; done"
    process = Process(["sh", "-c", script], folder=tmp_path)
    process.wait_for_output("ready")
    assert process.stop(within=0.3) == -signal.SIGKILL
    child = (tmp_path / "child").read_text().strip()
    eventually_sync(lambda: not runs(int(child)))


def test_what_a_process_closes_meanwhile_is_no_error(tmp_path: Path) -> None:
    """The list of open files is old as soon as it is read; nor is it an error to ask for a process that is gone."""
    script = "print('ready', flush=True)\nwhile True:\n for one in [open('/dev/null') for _ in range(200)]: one.close()"
    with Process([sys.executable, "-c", script], folder=tmp_path) as busy:
        busy.wait_for_output("ready")
        assert all(open_files(busy.pid) for _ in range(200))
    assert (children(busy.pid), open_files(busy.pid), runs(busy.pid)) == ([], [], False)


def test_a_line_that_is_being_written_waits(tmp_path: Path) -> None:
    """A journal is read while a proxy writes it: half a line is none yet."""
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "1.ndjson").write_bytes(b'{"whole":1}\n{"ha')
    assert journals.written(tmp_path) == [b'{"whole":1}']


def test_a_process_that_ends_too_early_tells_why() -> None:
    """Waiting for its output fails at once, with what it did say."""
    with (
        Process(["sh", "-c", "echo oh no; exit 3"]) as process,
        pytest.raises(AssertionError, match=r"(?s)\(3\).*oh no"),
    ):
        process.wait_for_output("ready", within=30)


def test_a_program_run_to_its_end() -> None:
    """A failure is an assertion with the output, unless failing is what is tested."""
    assert run(["cat"], text="hello").stdout == "hello"
    with pytest.raises(AssertionError, match="gave 4"):
        run(["sh", "-c", "exit 4"])
    assert run(["sh", "-c", "exit 4"], check=False).returncode == 4


def test_ports_are_never_given_twice() -> None:
    """And below the range that the kernel takes outgoing ports from."""
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    assert all(1024 < port < 32_768 for port in ports)


def test_a_killed_run_leaves_nothing_behind(tmp_path: Path) -> None:
    """A run that is killed outright (a time limit, an impatient person) takes what it started along."""
    (tmp_path / "run.py").write_text(
        "import time\nfrom tests.harness.processes import Process\n"
        "print('started', Process(['sh', '-c', 'exec sleep 60']).pid, flush=True)\ntime.sleep(60)\n"
    )
    with Process([sys.executable, tmp_path / "run.py"], environment={"PYTHONPATH": str(ROOT)}) as outer:
        child = outer.wait_for_output("\n").split()[1]
        assert runs(int(child))
        outer.kill()
        eventually_sync(lambda: not runs(int(child)))
