"""A short run of the campaign `identities`; `python -m tests.faults identities --rounds 200` is a long one."""

import json
from pathlib import Path

import pytest

from tests.faults.__main__ import main


@pytest.mark.timeout(300)
def test_killed_at_any_step_no_account_is_left(tmp_path: Path) -> None:
    """Nor a membership, nor a password."""
    report = tmp_path / "faults.json"
    assert main(["identities", "--rounds", "3", "--json", str(report)]) == 0
    assert json.loads(report.read_text())[0]["rounds"] >= 9
