"""A short run of the campaign `kill`; `python -m tests.faults kill --rounds 100` is a long one."""

import json
from pathlib import Path

import pytest

from tests.faults.__main__ import main


@pytest.mark.timeout(300)
def test_killed_proxy_loses_nothing(tmp_path: Path) -> None:
    """Every statement that PostgreSQL executed is in the journal, once, and what was left over is put in order."""
    report = tmp_path / "faults.json"
    assert main(["kill", "--rounds", "4", "--json", str(report)]) == 0
    counted = {"lost": 0, "doubled": 0, "late": 0, "leftover": 0}
    assert json.loads(report.read_text()) == [{"campaign": "kill", "rounds": 4, **counted}]
