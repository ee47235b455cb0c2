"""The command `python -m tests.bench pressure [PART…]`: each aim beside what was measured; exit code 1 for a miss."""

import argparse
import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence

from tests.bench.pressure import copies, crowds, fairness, memory, stand
from tests.bench.pressure.finding import Finding
from tests.bench.pressure.stand import Stand

Measure = Callable[[Stand, Callable[[str], None]], Coroutine[None, None, list[Finding]]]
PARTS: Mapping[str, Measure] = {
    "memory": memory.measure,
    "copies": copies.measure,
    "fairness": fairness.measure,
    "crowds": crowds.measure,
}


def main(arguments: Sequence[str]) -> int:
    """Measure the parts named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench pressure", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", choices=[*PARTS, []], help=f"of {', '.join(PARTS)}")
    parser.add_argument(
        "--own-core", action="store_true", help="the proxy on a processor of its own, all else on the others"
    )
    chosen = parser.parse_args(arguments)
    if chosen.own_core and len(os.sched_getaffinity(0)) == 1:
        parser.error("--own-core: there is but one processor")
    found: list[Finding] = []
    with stand.ready(own_core=chosen.own_core) as ready:
        for part in chosen.parts or PARTS:
            say(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
            found += asyncio.run(PARTS[part](ready, say))
    return report(found)


def report(found: Sequence[Finding]) -> int:
    """Print them; the command's exit code."""
    say("\n" + "\n".join(map(str, found)))
    return int(any(one.missed for one in found))


def say(line: str) -> None:
    """Tell the caller."""
    print(line, flush=True)  # noqa: T201 a command speaks to its caller
