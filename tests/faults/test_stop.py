"""A short run of the campaign `stop`; `python -m tests.faults stop` is a long one."""

from pathlib import Path

import pytest

from tests.faults import stop
from tests.faults.result import Plan


@pytest.mark.timeout(300)
def test_access_ends_whatever_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fault once: every backend ends, nothing is lost, and nothing is left of any session.

    How soon a proxy that was killed is back is the machine's: the campaign counts who lives for more than 5 s.
    """
    monkeypatch.setattr(stop, "LEADS_S", (1.5, *stop.LEADS_S))
    result = stop.campaign(Plan(rounds=1), tmp_path)
    assert (result.lost, result.doubled, result.leftover) == (0, 0, 0), result
    assert len(stop.FAULTS) - 3 <= result.rounds <= len(stop.FAULTS)
