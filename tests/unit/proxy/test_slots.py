"""Slots: one holder each over all processes, given back by whoever lets go or dies."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.slots import Slots

OTHER = """
import sys
from pathlib import Path
from proxy.slots import Slots
slots = Slots(Path(sys.argv[1]))
for line in sys.stdin:
    group, limit = line.split()
    print(slots.take(group, int(limit)) is not None, flush=True)
"""


class Other:
    """Another process with the same slots."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def takes(self, group: str, limit: int) -> bool:
        """Whether it gets one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{group} {limit}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline() == "True\n"

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()


@contextmanager
def other(home: Path) -> Iterator[Other]:
    """Another process, ended on the way out."""
    command = [sys.executable, "-c", OTHER, str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Other(process)
        process.kill()


@pytest.fixture
def slots(tmp_path: Path) -> Iterator[Slots]:
    """This process's."""
    made = Slots(tmp_path)
    yield made
    made.close()


def test_within_a_process(slots: Slots) -> None:
    """So many as the limit says, each another one; a slot that is given back can be had again."""
    taken = [slots.take("a", 3) for _ in range(4)]
    assert len(set(taken[:3])) == 3
    assert taken[3] is None
    assert taken[1] is not None
    slots.give_back(taken[1])
    assert slots.take("a", 3) == taken[1]


def test_groups_are_apart(slots: Slots) -> None:
    """What one group has taken, another has still."""
    assert slots.take("a", 1) is not None
    assert slots.take("b", 1) is not None
    assert slots.take("a", 1) is None


def test_over_two_processes(slots: Slots, tmp_path: Path) -> None:
    """The limit is for both together; the dead one's slots are free at once."""
    with other(tmp_path) as second:
        first = [slots.take("a", 3), slots.take("a", 3)]
        assert None not in first
        assert second.takes("a", 3)
        assert not second.takes("a", 3)
        assert slots.take("a", 3) is None
        assert first[0] is not None
        slots.give_back(first[0])
        assert second.takes("a", 3)
        assert slots.take("a", 3) is None
        second.kill()
        assert slots.take("a", 3) is not None
        assert slots.take("a", 3) is not None
        assert slots.take("a", 3) is None


def test_no_locks_no_slot(tmp_path: Path) -> None:
    """Where the kernel gives out no locks, nobody is admitted."""
    broken = Slots(tmp_path)
    broken.close()
    assert broken.take("a", 3) is None
