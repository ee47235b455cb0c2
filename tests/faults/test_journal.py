"""A short run of the campaign `journal`; `python -m tests.faults journal` is a long one."""

from pathlib import Path

import pytest

from tests.faults.journal import campaign
from tests.faults.journal.stand import Kind

KIND = Kind(durability="disk", workers=1)
SHORT = {"kill": 1, "full": 1, "eio": 1, "control": 1}


@pytest.mark.timeout(300)
def test_what_was_executed_is_on_record_once(tmp_path: Path) -> None:
    """A proxy that is killed, whose disk is full and then fails, and whose control is in trouble, loses nothing."""
    result = campaign.run(SHORT, tmp_path, kinds=[KIND])
    assert (result.lost, result.doubled, result.late, result.leftover) == (0, 0, 0, 0), result
    assert result.rounds == sum(SHORT.values())
