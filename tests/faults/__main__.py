"""`python -m tests.faults [OPTION…] [CAMPAIGN…]`: inject faults on purpose, and report what was lost."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from tests.faults import blackhole, identities, kill, matrix, network, soak, stop
from tests.faults.journal import campaign as journal
from tests.faults.result import DEFAULT, Plan, Result

CAMPAIGNS: Mapping[str, Callable[[Plan, Path], Result]] = {
    "kill": kill.campaign,
    "network": network.campaign,
    "blackhole": blackhole.campaign,
    "soak": soak.campaign,
    "matrix": matrix.campaign,
    "stop": stop.campaign,
    "identities": identities.campaign,
    "journal": journal.campaign,
}
PARTS = {f"journal-{name}": journal.part(name) for name in journal.SHARES}
"""What is part of another one, by itself."""
KNOWN = {**CAMPAIGNS, **PARTS}
ROUNDS: Mapping[str, int] = {"stop": 50, "matrix": 10, "journal": 1_000}
"""Where it is another number than usually: of each kind, there."""


def main(arguments: list[str] | None = None) -> int:
    """Run the campaigns; returns 0 where nothing was lost, doubled, late or left over."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("campaign", nargs="*", metavar="CAMPAIGN", help=f"one of {', '.join(KNOWN)}; default: all")
    usually = ", ".join([str(DEFAULT.rounds), *(f"{rounds} of each in {name}" for name, rounds in ROUNDS.items())])
    parser.add_argument("--rounds", type=int, help=f"faults per campaign (default: {usually})")
    parser.add_argument("--seconds", type=float, default=DEFAULT.seconds, help="a soak's length (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.campaign) - set(KNOWN):
        parser.error(f"no such campaign: {', '.join(sorted(unknown))}")
    results = []
    for name in chosen.campaign or CAMPAIGNS:
        rounds = chosen.rounds or ROUNDS.get(name, DEFAULT.rounds)
        plan = Plan(rounds=rounds, seconds=chosen.seconds)
        with tempfile.TemporaryDirectory(prefix="curfew-faults-") as folder:
            results.append(KNOWN[name](plan, Path(folder)))
        print(results[-1])  # noqa: T201 a command speaks to its caller
    if chosen.json is not None:
        chosen.json.write_text(json.dumps([asdict(one) for one in results], indent=2) + "\n")
    return 0 if all(one.clean for one in results) else 1


if __name__ == "__main__":
    sys.exit(main())
