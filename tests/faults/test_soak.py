"""A short run of the campaign `soak`; `python -m tests.faults soak --seconds 600` is a long one."""

from pathlib import Path

import pytest

from tests.faults import soak
from tests.faults.result import Plan

SECONDS = 8.0


@pytest.mark.timeout(300)
def test_soak(tmp_path: Path) -> None:
    """Whatever happens to its clients, backends and grants: no statement is lost, and nothing is left over.

    How soon each stop was is for the stop matrix to say: here the machine has more to do than it can.
    """
    result = soak.campaign(Plan(seconds=SECONDS), tmp_path)
    assert (result.lost, result.doubled, result.leftover) == (0, 0, 0), result
    assert result.rounds > len(soak.FATES)
