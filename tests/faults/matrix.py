"""Campaign `matrix`: whatever a session is doing, against whatever ends it, on the oldest and the newest PostgreSQL.

The states and the triggers are those of `tests.integration.session.matrix`; here each backend must be gone in a second,
and in six rounds each state meets each trigger in all combinations of end mode and identity.
"""

import asyncio
import sys
from pathlib import Path

from tests.bench.pressure.finding import percentile
from tests.faults.progress import Progress
from tests.faults.result import Plan, Result
from tests.harness.binaries import version_bin
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.integration.session import matrix
from tests.integration.session.triggers import TRIGGERS, can_mount

VERSIONS = (14, 18)
DATABASE = "matrix"
WITHIN_S = 1.0
"""DESIGN.md, promise 2."""


def campaign(plan: Plan, folder: Path) -> Result:
    """Every trigger strikes every state, `plan.rounds` times on each version."""
    wrong: list[str] = []
    took: list[float] = []
    for major in VERSIONS:
        (folder / str(major)).mkdir()
        ca = Authority(folder / str(major))
        with Cluster(ca, programs=version_bin(major), hba=matrix.HBA) as cluster:
            matrix.install(cluster, DATABASE)
            verdicts = asyncio.run(
                _campaign(plan, cluster, ca, folder / str(major), name=f"matrix: PostgreSQL {major}")
            )
        wrong += [f"PostgreSQL {major}: {fault}" for verdict in verdicts for fault in verdict.wrong]
        for verdict in verdicts:
            took += verdict.took_s.values()
        for name in dict.fromkeys(verdict.trigger.name for verdict in verdicts):
            _say(
                f"matrix: PostgreSQL {major}, {name}: {_figures([one for one in verdicts if one.trigger.name == name])}"
            )
    for fault in wrong:
        _say(f"matrix: {fault}")
    late = sum(seconds > WITHIN_S for seconds in took)
    return Result(campaign="matrix", rounds=len(took), lost=0, doubled=0, late=late, leftover=len(wrong))


async def _campaign(plan: Plan, cluster: Cluster, ca: Authority, folder: Path, *, name: str) -> list[matrix.Verdict]:
    disk = can_mount()
    triggers = [trigger for trigger in TRIGGERS if disk or trigger.reason != "journal"]
    progress = Progress(name, plan.rounds * len(triggers))
    verdicts = []
    async with matrix.stand(cluster, ca, folder, DATABASE, disk=disk) as stand:
        for turn in range(plan.rounds):
            for trigger in triggers:
                verdicts.append(await matrix.strike(stand, trigger, turn=turn))
                progress.step(f"{sum(len(one.wrong) for one in verdicts)} wrong")
    return verdicts


def _figures(verdicts: list[matrix.Verdict]) -> str:
    """By two clocks: what another connection saw of it, and what the record says."""
    seen = [seconds for verdict in verdicts for seconds in verdict.took_s.values()]
    said = [seconds for verdict in verdicts for seconds in verdict.said_s.values()]
    shown = [f"{percentile(them, 0.5):.3f}/{percentile(them, 0.99):.3f}/{max(them):.3f}" for them in (seen, said)]
    return f"{len(seen)} sessions, backend gone after {shown[0]} s (p50/p99/max), by the record {shown[1]} s"


def _say(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201 a command speaks to its caller
