"""The campaign: each part's rounds on one stand, then control's books held against PostgreSQL's log."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from http.client import HTTPException
from pathlib import Path

from tests.faults.journal import rounds, witness
from tests.faults.journal.clients import CLIENTS, come_and_go
from tests.faults.journal.stand import KINDS, PATIENCE_S, Kind, Site, Stand, cluster, furnish, standing
from tests.faults.progress import Progress
from tests.faults.result import Plan, Result
from tests.harness.certs import Authority
from tests.harness.waiting import TooLateError, eventually

SHARES: Mapping[str, int] = {"kill": 1, "full": 10, "eio": 20, "control": 20, "power": 20}
"""The parts, and for how many kills there is one round of each."""
_ROUNDS: Mapping[str, tuple[rounds.Round, Callable[[Site], bool]]] = {
    "kill": (rounds.kill, lambda _: True),
    "full": (rounds.fill, lambda site: site.disk or site.layer is not None),
    "eio": (rounds.fail, lambda site: site.layer is not None),
    "power": (rounds.lose_power, lambda site: site.layer is not None and site.kind.durability == "disk"),
}
"""What is done to a proxy, and to which ones it can be."""


def campaign(plan: Plan, folder: Path) -> Result:
    """All of it: `plan.rounds` kills, and the other parts in proportion."""
    return run({name: max(1, plan.rounds // share) for name, share in SHARES.items()}, folder)


def part(name: str) -> Callable[[Plan, Path], Result]:
    """One part alone, as many rounds as planned."""
    return lambda plan, folder: run({name: plan.rounds}, folder, name=f"journal-{name}")


def run(amounts: Mapping[str, int], folder: Path, *, name: str = "journal", kinds: Sequence[Kind] = KINDS) -> Result:
    """So many rounds of each part, on these proxies."""
    ca = Authority(folder)
    with cluster(ca) as postgres:
        furnish(postgres)
        return asyncio.run(_run(amounts, name, standing(postgres, ca, folder, kinds)))


async def _run(amounts: Mapping[str, int], name: str, stand_: AbstractAsyncContextManager[Stand]) -> Result:
    async with stand_ as stand:
        loop = asyncio.get_running_loop()
        clients = [loop.create_task(come_and_go(site)) for site in stand.sites for _ in range(CLIENTS)]
        late = made = 0
        for one, planned in amounts.items():
            began, before = time.monotonic(), (_answered(stand), _refused(stand))
            missed, count = await _part(stand, one, planned)
            answered, refused = _answered(stand) - before[0], _refused(stand) - before[1]
            took = time.monotonic() - began
            _say(f"journal: {one}: {count} rounds in {took:.0f} s; {answered} statements answered, {refused} refused")
            late += missed
            made += count
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        unshipped = sum(await asyncio.gather(*(_ship(site) for site in stand.sites)))
        found = await asyncio.to_thread(witness.look, stand)
    assert found.executed > made, "nothing was tried"
    return Result(
        campaign=name,
        rounds=made,
        lost=found.lost,
        doubled=found.doubled,
        late=late,
        leftover=found.leftover + unshipped,
    )


async def _part(stand: Stand, name: str, count: int) -> tuple[int, int]:
    """One part's rounds: how many proxies were not there again afterwards, and how many rounds there were."""
    progress = Progress(f"journal: {name}", count)
    missed = 0
    if name == "control":
        for _ in range(count):
            missed += not await rounds.trouble_control(stand)
            progress.step(f"late {missed}")
        return missed, count
    do, possible = _ROUNDS[name]
    sites = [site for site in stand.sites if possible(site)]
    if not sites:
        _say(f"journal: {name}: not tried, this machine cannot")
        return 0, 0
    left = iter(range(count))

    async def work(site: Site) -> None:
        nonlocal missed
        for _ in left:
            late = not await do(stand, site)  # by itself: `+=` would have read the count before the wait
            missed += late
            progress.step(f"late {missed}")

    await asyncio.gather(*(work(site) for site in sites))
    return missed, count


async def _ship(site: Site) -> int:
    """Wait until the sessions are over, and control has their records. How many proxies do not get there."""

    def shipped() -> bool:
        with suppress(OSError, HTTPException):
            metrics = site.proxy.metrics()
            return metrics["curfew_sessions_live"] == 0 and metrics["curfew_journal_unacknowledged_bytes"] == 0
        return False

    try:
        await eventually(lambda: asyncio.to_thread(shipped), within=PATIENCE_S, what=f"{site.kind}: all is shipped")
    except TooLateError as error:
        _say(f"journal: {error}\n{site.proxy.log()[-4_000:]}")
        return 1
    return 0


def _answered(stand: Stand) -> int:
    return sum(site.answered for site in stand.sites)


def _refused(stand: Stand) -> int:
    return sum(site.refused for site in stand.sites)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 a command speaks to its caller
