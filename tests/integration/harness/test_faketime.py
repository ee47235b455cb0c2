"""A clock of one's own: the wall clock of one process is set, its monotonic one and everybody else's are not."""

import sys
import time
from pathlib import Path

import pytest

from tests.harness.faketime import Clock, library
from tests.harness.processes import Process
from tests.harness.waiting import eventually_sync

STEP_S = 3_600
SHOWS = """
import select, time
while True:
    print(time.time(), time.monotonic(), flush=True)
    select.select([], [], [], 0.02)
"""


def test_a_step(tmp_path: Path) -> None:
    """Ahead, behind, and back in time, while the process runs."""
    loaded = library()
    if loaded is None:
        pytest.skip("there is no libfaketime, and no package to be had")
    clock = Clock(tmp_path, loaded)
    with Process([sys.executable, "-c", SHOWS], environment=clock.environment) as process:

        def ahead() -> int:
            wall, _, monotonic = process.output.splitlines()[-2].partition(" ")
            assert abs(float(monotonic) - time.monotonic()) < 60
            return round((float(wall) - time.time()) / STEP_S)

        eventually_sync(lambda: process.output.count("\n") > 2)
        for hours in (0, 1, -1, 0):
            clock.set(hours * STEP_S)
            eventually_sync(lambda: ahead() == hours, what=f"a clock that is {hours} h ahead")  # noqa: B023 asked at once
