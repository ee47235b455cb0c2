"""`python -m tests.faults [--rounds N] [--json FILE] [CAMPAIGN…]`: inject faults, and report what was lost."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from tests.faults import kill
from tests.faults.result import Result

CAMPAIGNS: Mapping[str, Callable[[int, Path], Result]] = {"kill": kill.campaign}
ROUNDS = 20


def main(arguments: list[str] | None = None) -> int:
    """Run the campaigns; returns 0 where nothing was lost, doubled, late or left over."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("campaign", nargs="*", metavar="CAMPAIGN", help=f"one of {', '.join(CAMPAIGNS)}; default: all")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="faults per campaign (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.campaign) - set(CAMPAIGNS):
        parser.error(f"no such campaign: {', '.join(sorted(unknown))}")
    results = []
    for name in chosen.campaign or CAMPAIGNS:
        with tempfile.TemporaryDirectory(prefix="curfew-faults-") as folder:
            results.append(CAMPAIGNS[name](chosen.rounds, Path(folder)))
        print(results[-1])  # noqa: T201 a command speaks to its caller
    if chosen.json is not None:
        chosen.json.write_text(json.dumps([asdict(one) for one in results], indent=2) + "\n")
    return 0 if all(one.clean for one in results) else 1


if __name__ == "__main__":
    sys.exit(main())
