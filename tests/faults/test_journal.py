"""A short run of the campaign `journal`; `python -m tests.faults journal` is a long one."""

from pathlib import Path

import pytest

from tests.faults.journal import campaign
from tests.faults.journal.stand import Kind

KIND = Kind(durability="disk", workers=1)
SHORT = {"kill": 1, "full": 1, "eio": 1, "control": 1, "power": 1}


@pytest.mark.timeout(300)
def test_what_was_executed_is_on_record_once(tmp_path: Path) -> None:
    """Nothing is lost by a proxy that is killed, its full and failing disk, control in trouble, a machine that dies."""
    result = campaign.run(SHORT, tmp_path, kinds=[KIND])
    assert (result.lost, result.doubled, result.late, result.leftover) == (0, 0, 0, 0), result
    assert 2 <= result.rounds <= sum(SHORT.values()), "two need nothing that a machine may lack"
