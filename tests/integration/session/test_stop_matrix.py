"""The verified stop: whatever a session is doing, and whatever ends it, its backend ends and the record says how.

`python -m tests.faults matrix` does it in all combinations, on the oldest and the newest PostgreSQL, and holds it to a
second.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.integration.session import matrix
from tests.integration.session.triggers import TRIGGERS, Trigger, can_mount

pytestmark = pytest.mark.asyncio(loop_scope="module")

WITHIN_S = 20.0
"""What a starved machine needs. The second that is promised is for the campaign to measure, and for the bench."""
DATABASE = "matrix"


@pytest.fixture(scope="module")
def cluster(ca: Authority) -> Iterator[Cluster]:
    """A PostgreSQL for this file: here the keeper makes accounts, and people's own roles log in by certificate."""
    with Cluster(ca, hba=matrix.HBA) as started:
        matrix.install(started, DATABASE)
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stand(
    cluster: Cluster, ca: Authority, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[matrix.Stand]:
    """The stand for this file."""
    folder: Path = tmp_path_factory.mktemp("matrix")
    async with matrix.stand(cluster, ca, folder, DATABASE, disk=can_mount()) as running:
        yield running


@pytest.mark.parametrize("trigger", TRIGGERS, ids=lambda trigger: trigger.name)
async def test_every_state(trigger: Trigger, stand: matrix.Stand) -> None:
    """The backends are gone, nothing that ran is committed, the clients are told, the records are whole and true."""
    if trigger.reason == "journal" and not can_mount():
        pytest.skip("cannot mount a small tmpfs here")
    soon = (
        trigger.expires and not trigger.finishes
    )  # accounts take their time, which the grants' lead would have to grow by
    verdict = await matrix.strike(
        stand, trigger, turn=TRIGGERS.index(trigger), identities=("app",) if soon else matrix.FEW
    )
    assert not verdict.wrong, "\n".join(verdict.wrong)
    assert max(verdict.took_s.values()) < WITHIN_S
    assert max(verdict.said_s.values()) < WITHIN_S
