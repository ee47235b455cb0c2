"""The command `python -m tests.bench`: runs the cases named, or all; prints a table, and writes the figures as JSON."""

import argparse
import json
import os
import pstats
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from proxy.wire import framing
from tests.bench import stand
from tests.bench.cases import CASES, Amount
from tests.bench.journal import command as journal
from tests.bench.pressure import command as pressure
from tests.bench.results import Result, table
from tests.bench.runner import run_case
from tests.bench.search import command as search
from tests.bench.stop import command as stop
from tests.bench.ways import CURFEW, PGBOUNCER
from tests.harness.binaries import postgresql_bin
from tests.harness.processes import run

APART: Mapping[str, Callable[[Sequence[str]], int]] = {
    "journal": journal.main,
    "pressure": pressure.main,
    "search": search.main,
    "stop": stop.main,
}
"""What has options of its own."""
_PROFILE_LINES = 45


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in APART:
        return APART[arguments[0]](arguments[1:])
    chosen = _parser().parse_args(arguments)
    amount = Amount(seconds=chosen.seconds)
    if chosen.profile:
        _profile(chosen.profile, amount)
        return 0
    results: list[Result] = []
    with stand.ready(amount) as ways:
        _say(_circumstances())
        if PGBOUNCER not in [way.name for way in ways]:
            _say("PgBouncer is not installed (set $PGBOUNCER to its program): measuring without it.")
        for name in dict.fromkeys(chosen.cases or CASES):
            results.append(run_case(CASES[name], ways, amount, rounds=chosen.rounds, say=_say))
            if chosen.json is not None:
                chosen.json.write_text(json.dumps([one.as_json() for one in results], indent=2) + "\n")
    _say("\n" + table(results))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Curfew's speed beside a direct connection and PgBouncer, interleaved in one run; medians.",
        epilog=f"cases: {' '.join(CASES)}; or {', '.join(APART)}, which have options of their own",
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", choices=[*CASES, []], help="default: all of them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, after each case")
    parser.add_argument(
        "--seconds", type=_positive, default=Amount().seconds, help="for each measurement (%(default)s)"
    )
    parser.add_argument("--rounds", type=_positive, default=5, help="of all ways, for each case (%(default)s)")
    parser.add_argument(
        "--profile", metavar="CASE", choices=CASES, help="run one case on a proxy under cProfile instead"
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def _circumstances() -> str:
    version = run([postgresql_bin() / "postgres", "--version"]).stdout.strip()
    return f"{version}; Python {sys.version.split()[0]}; framer: {framing.IMPLEMENTATION}; {os.cpu_count()} CPUs"


def _profile(name: str, amount: Amount) -> None:
    """Run one case through Curfew alone, and show where the proxy's time went."""
    path = Path(tempfile.gettempdir()) / f"curfew-bench-{name}.pstats"
    with stand.ready(amount, profile=path) as ways:
        run_case(CASES[name], [way for way in ways if way.name == CURFEW], amount, rounds=1, say=_say)
    pstats.Stats(str(path)).sort_stats(pstats.SortKey.TIME).print_stats(_PROFILE_LINES)
    _say(f"{path}: for python -m pstats")


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 a command speaks to its caller


if __name__ == "__main__":
    sys.exit(main())
