"""A short run of the campaign `soak`; `python -m tests.faults soak --seconds 600` is a long one."""

from pathlib import Path

import pytest

from tests.faults import soak
from tests.faults.result import Plan

SECONDS = 8.0


@pytest.mark.timeout(300)
def test_soak(tmp_path: Path) -> None:
    """Whatever happens to its clients, backends and grants: no statement is lost, and nothing is left over."""
    result = soak.campaign(Plan(seconds=SECONDS), tmp_path)
    assert result.clean, result
    assert result.rounds > len(soak.FATES)
