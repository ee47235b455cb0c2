"""The command `python -m tests.bench stop [PART…]`: each aim beside what was measured; exit code 1 for a miss."""

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.bench.pressure.command import report, say
from tests.bench.pressure.finding import Finding
from tests.bench.stop import crowd, revocations, sessions
from tests.bench.stop.amount import Amount

Say = Callable[[str], None]
PARTS: Mapping[str, Callable[[Amount, Say], list[Finding]]] = {
    "sessions": sessions.measure,
    "crowd": crowd.measure,
    "revocations": revocations.measure,
}
DEFAULT = Amount()


def main(arguments: Sequence[str]) -> int:
    """Measure the parts named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench stop", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", choices=[*PARTS, []], help=f"of {', '.join(PARTS)}")
    for name, what in (
        ("sessions", "real sessions that end at once"),
        ("crowd", "sessions on a fake upstream that end at once"),
        ("revocations", "revocations on a quiet proxy, and again on a busy one"),
    ):
        default = getattr(DEFAULT, name)
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{what} (%(default)s)")
    parser.add_argument("--workers", type=int, default=DEFAULT.workers, help="of the proxy (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    chosen = parser.parse_args(arguments)
    amount = Amount(
        sessions=chosen.sessions, crowd=chosen.crowd, revocations=chosen.revocations, workers=chosen.workers
    )
    found: list[Finding] = []
    for part in chosen.parts or PARTS:
        say(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
        found += PARTS[part](amount, say)
    if chosen.json is not None:
        figures = [asdict(one) | {"missed": one.missed} for one in found]
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n")
    return report(found)
