"""How long a small query takes beside somebody else's big transfer (PROTOCOL.md, row 66 and T22).

Quiet and loaded rounds take turns, so that whatever else the machine does hits both. Whoever loads has been seen to
get on before a round begins (`tests.bench.pressure.load`), and is a process of its own. The same query on a connection
past the proxy shows how much of the difference is PostgreSQL's and the machine's.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from tests.bench.pressure import load
from tests.bench.pressure.finding import Finding, percentile
from tests.bench.pressure.stand import Stand, Way
from tests.harness.processes import Process
from tests.harness.wire import Wire

AIM_MS = 5.0
ROUNDS = 8
SAMPLES = 2_000
"""Of each kind, quiet and loaded."""
PACE_S = 0.003
WITHIN_S = 60.0
PIPELINED = 1_000_000
"""Tiny queries, in all loaded rounds together."""

Loader = Callable[[Way], AbstractContextManager[Process]]


@dataclass(slots=True, kw_only=True)
class Times:
    """Milliseconds: through the proxy and past it, quiet and beside the load."""

    proxied: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    direct: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))

    @property
    def added_ms(self) -> float:
        """What the load adds to the p99 of a query through the proxy."""
        return _added(self.proxied)

    @property
    def added_past_the_proxy_ms(self) -> float:
        """What it adds to the p99 of the same query on PostgreSQL itself."""
        return _added(self.direct)

    def __str__(self) -> str:
        shown = [
            f"{name} {percentile(values, 0.5):.2f}/{percentile(values, 0.99):.2f}/{max(values):.2f}"
            for name, values in (
                ("quiet", self.proxied[0]),
                ("beside", self.proxied[1]),
                ("past the proxy quiet", self.direct[0]),
                ("beside", self.direct[1]),
            )
        ]
        return f"p50/p99/max in ms: {', '.join(shown)} ({len(self.proxied[1])} samples)"


def _added(times: tuple[list[float], list[float]]) -> float:
    return percentile(times[1], 0.99) - percentile(times[0], 0.99)


async def interleaved(way: Way, loader: Loader, *, rounds: int, samples: int, whole: bool = False) -> Times:
    """`rounds` of each kind, `samples` of each in all; with `whole`, a loaded round lasts until its load has ended."""
    times = Times()
    each = samples // rounds
    async with await way.session() as wire, await way.past_the_proxy() as direct:
        for _ in range(rounds):
            await _ask(wire, direct, times, each, loaded=False)
            with loader(way) as process:
                if not whole:
                    await _ask(wire, direct, times, each, loaded=True)
                while whole and process.running:
                    await _ask(wire, direct, times, 1, loaded=True)
                status = process.wait() if whole else 0
                assert status == 0 if whole else process.running, f"the load has failed:\n{process.output}"
    return times


async def _ask(wire: Wire, direct: Wire, times: Times, count: int, *, loaded: bool) -> None:
    """One query after the other, at a steady pace: asked without a pause, a long wait would count as one of many."""
    for _ in range(count):
        due = asyncio.get_running_loop().create_task(asyncio.sleep(PACE_S))  # The pace is the measurement's.
        times.proxied[loaded].append(await _answer_ms(wire))
        times.direct[loaded].append(await _answer_ms(direct))
        await due


async def _answer_ms(wire: Wire) -> float:
    begun = time.perf_counter()
    await wire.run("SELECT 1", within=WITHIN_S)
    return (time.perf_counter() - begun) * 1_000


def _pipelined(way: Way) -> AbstractContextManager[Process]:
    return load.pipeline(way, PIPELINED // ROUNDS)


LOADS: tuple[tuple[str, Loader, tuple[bool, ...], bool], ...] = (
    ("COPY OUT", load.copy_out, (False, True), False),
    ("COPY IN", load.copy_in, (False, True), False),
    (f"{PIPELINED:,} pipelined queries", _pipelined, (True,), True),
)


async def measure(stand: Stand, say: Callable[[str], None]) -> list[Finding]:
    """Each load, in clear and over TLS."""
    found = []
    for name, loader, ways, whole in LOADS:
        for tls in ways:
            with stand.proxy(tls=tls) as way:
                times = await interleaved(way, loader, rounds=ROUNDS, samples=SAMPLES, whole=whole)
            say(f"fairness  {name}, {way.name}: {times}")
            what = f"SELECT 1 beside {name}, {way.name}"
            found.append(Finding(what=f"{what}: p99 added", measured=times.added_ms, unit="ms", aim=AIM_MS))
            found.append(Finding(what="    the same past the proxy", measured=times.added_past_the_proxy_ms, unit="ms"))
    return found
