"""Every client that can be run here has the same conversation; what is on record of it is what PostgreSQL logged.

`python -m tests.clients` does the same for all of them, by each way into TLS, building those that take their time.
"""

import shutil

import pytest

from tests.clients.conversation import converse
from tests.clients.programs import PROGRAMS, Program
from tests.clients.stand import Stand


@pytest.mark.timeout(180)  # the first time, some are built
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda one: one.name)
async def test_conversation(program: Program, stand: Stand) -> None:
    """Parameters, errors, batches, COPY, notifications, a cancel request, a big result; direct TLS where there is."""
    if reason := program.skip():
        pytest.skip(reason)
    result = await converse(program, stand, negotiation=program.negotiations[-1])
    assert result.faults == ()


@pytest.mark.parametrize("program", [one for one in PROGRAMS if one.needs], ids=lambda one: one.name)
def test_what_is_missing(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a language is not installed, the reason to skip names what to install."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    reason = program.missing()
    assert reason is not None
    assert all(package in reason for package in program.needs.values())
