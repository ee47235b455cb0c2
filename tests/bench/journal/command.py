"""The command `python -m tests.bench journal [PART…]`: each figure beside its aim; exit code 1 for a miss."""

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.bench.cases import Amount
from tests.bench.journal import ingest, shipping, throughput
from tests.bench.results import Result, table
from tests.bench.ways import CURFEW

Say = Callable[[str], None]
PARTS: Mapping[str, Callable[[Amount, int, Say], list[Result]]] = {
    "throughput": throughput.measure,
    "ingest": ingest.measure,
    "shipping": shipping.measure,
}
MISSED: Mapping[str, Callable[[list[Result]], list[str]]] = {
    "throughput": throughput.missed,
    "ingest": ingest.missed,
    "shipping": shipping.missed,
}


def main(arguments: Sequence[str]) -> int:
    """Measure the parts named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench journal", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", choices=[*PARTS, []], help=f"of {', '.join(PARTS)}")
    parser.add_argument("--seconds", type=int, default=3, help="for each measurement (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of all ways, for each case (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    chosen = parser.parse_args(arguments)
    amount = Amount(seconds=chosen.seconds, copy_megabytes=1)
    found: list[Result] = []
    missed: list[str] = []
    for part in chosen.parts or PARTS:
        _say(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
        results = PARTS[part](amount, chosen.rounds, _say)
        _say("")
        for one in [results] if part == "throughput" else [[one] for one in results]:
            _say(table(one))
        found += results
        missed += MISSED[part](results)
    if chosen.json is not None:
        chosen.json.write_text(json.dumps([one.as_json() for one in found], indent=2) + "\n")
    _say(
        f"aims: `process` {throughput.AIM} of {throughput.NONE}, {CURFEW} takes in and ships more than one proxy makes"
    )
    for name in missed:
        _say(f"MISSED: {name}")
    return int(bool(missed))


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 a command speaks to its caller
