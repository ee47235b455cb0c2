"""A short run of the campaign `network`; `python -m tests.faults network --rounds 78` has each fault in each state."""

from pathlib import Path

import pytest

from tests.faults import network
from tests.faults.result import Plan, Result


@pytest.mark.timeout(300)
def test_network_faults(tmp_path: Path) -> None:
    """Each fault once, each state at least twice: the session ends in time, and nothing is left of it."""
    rounds = len(network.FAULTS)
    result = network.campaign(Plan(rounds=rounds), tmp_path)
    assert result == Result(campaign="network", rounds=rounds, lost=0, doubled=0, late=0, leftover=0)
