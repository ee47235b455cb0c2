"""What is done to the stand: one function a round, which returns once the proxy serves again.

`kill`, `fill` and `fail` are done to all proxies at the same time, each at its own pace; what is done to control hits
all of them.
"""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from tests.faults.journal.layer import FAILURES, FULL, SHORT, SYNC
from tests.faults.journal.layer import lose_power as cut_power
from tests.faults.journal.stand import MIB, PATIENCE_S, Site, Stand
from tests.harness.waiting import eventually

Round = Callable[[Stand, Site], Awaitable[bool]]
"""Do it once; whether the proxy serves again."""

STATEMENTS = (1, 80)
"""After how many a proxy is killed."""
START_S = (0.0, 2.0)
"""After how long, where it is killed while it starts."""
HOLD_S = (0.0, 0.3)
"""How long a full disk stays full once statements are refused."""
OUT_S = (0.5, 3.0)
"""How long control is away."""


async def kill(_: Stand, site: Site) -> bool:
    """Kill -9: all its processes at once, its first one alone, one worker, or all while it starts."""
    await site.served(random.randint(*STATEMENTS))
    await asyncio.sleep(random.uniform(0, 0.02))  # at any moment: that is the point
    choice = random.random()
    workers = site.workers()
    if workers and choice < 0.4:
        _strike(random.choice(workers))
    elif workers and choice < 0.5:
        _strike(site.process.pid)  # the workers end by themselves
        site.process.wait()
        await eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), within=PATIENCE_S)
        site.launch()
    else:
        site.start_again()
        if choice > 0.9:
            await asyncio.sleep(random.uniform(*START_S))  # at any moment of the start
            site.start_again()
    return await site.served()


async def fill(_: Stand, site: Site) -> bool:
    """Fill the disk up; in every third round the proxy is killed, and started on the full disk."""
    await site.served(random.randint(*STATEMENTS))
    ballast = site.proxy.state / "ballast"
    if site.disk:
        refusals = asyncio.get_running_loop().create_task(site.said_no())
        _fill(ballast)
        await refusals
    else:
        assert site.layer is not None, "no small disk, and no failing layer"
        site.layer.fail(FULL, after=random.randint(0, 3))
        await site.said_no()
    if random.random() < 1 / 3:
        site.start_again()
    await asyncio.sleep(random.uniform(*HOLD_S))  # so that it takes a while
    ballast.unlink(missing_ok=True)
    if site.layer is not None:
        site.layer.heal()
    return await site.served()


async def fail(_: Stand, site: Site) -> bool:
    """Have the disk fail: a write, half of one, a sync. Nothing heals the journal but a new start."""
    layer = site.layer
    assert layer is not None, "no C compiler"
    await site.served(random.randint(*STATEMENTS))
    layer.fail(SHORT, after=random.randint(0, 10))
    if not await site.served(random.randint(1, 40)):  # which nobody is to notice
        return False
    choices = [one for one in FAILURES if one is not SYNC or site.kind.durability == "disk"]
    layer.fail(random.choice(choices), after=random.randint(0, 30))
    await eventually(lambda: layer.fired, within=PATIENCE_S, what=f"{site.kind}: a call that fails")
    await site.said_no()
    await asyncio.sleep(random.uniform(*HOLD_S))  # so that it takes a while
    layer.heal()
    site.start_again()
    return await site.served()


async def lose_power(_: Stand, site: Site) -> bool:
    """Have the whole machine die, in every third round after a sync has failed: only what was synced is still there."""
    assert site.layer is not None, "no C compiler"
    await site.served(random.randint(*STATEMENTS))
    if random.random() < 1 / 3:
        site.layer.fail(SYNC, after=random.randint(0, 5))
        await site.said_no()
    await asyncio.sleep(random.uniform(*HOLD_S))  # at any moment
    site.process.kill()
    site.layer.heal()
    cut_power(site.proxy.state)
    site.launch()
    return await site.served()


async def trouble_control(stand: Stand) -> bool:
    """Control is dead, hangs, or answers wrongly, while a proxy may be killed; whether all serve all the same."""
    what = random.choice((_dead, _stalled, _wrong))
    task = asyncio.get_running_loop().create_task(what(stand))
    results = await asyncio.gather(*(_meanwhile(stand, site) for site in stand.sites))
    await task
    return all(results)


async def _meanwhile(stand: Stand, site: Site) -> bool:
    if random.random() < 1 / 4:
        return await kill(stand, site)
    return await site.served(random.randint(*STATEMENTS))


async def _dead(stand: Stand) -> None:
    await asyncio.to_thread(stand.control.kill)
    await asyncio.sleep(random.uniform(*OUT_S))  # so that it takes a while
    await stand.restart_control()


async def _stalled(stand: Stand) -> None:
    stand.control.signal(signal.SIGSTOP)
    await asyncio.sleep(random.uniform(*OUT_S))  # so that it takes a while
    stand.control.signal(signal.SIGCONT)


async def _wrong(stand: Stand) -> None:
    stand.answers("refused", "slow", "lost", "cut")
    await asyncio.sleep(random.uniform(*OUT_S))  # so that it takes a while
    stand.answers("well")


def _strike(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _fill(ballast: Path) -> None:
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(MIB)):
            pass
    with suppress(OSError), ballast.open("ab", buffering=0) as file:
        while file.write(bytes(4_096)):
            pass
