"""`python -m tests.suites [NAME ...]`: run the suites of others on both ways, and print what differs and why.

Exit status 0: the same tests pass through Curfew as direct, but for the reviewed list, and all of that list showed;
every session was recorded with a chain that holds. Else 1.
"""

import argparse
import signal
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path

from tests.suites.catalog import SUITES
from tests.suites.outcomes import Difference, Outcomes, count, passes
from tests.suites.runner import Result, run_in_scratch, run_suite
from tests.suites.sources import CannotFetchError
from tests.suites.suite import Suite

_SAID_LINES = 12
_LISTED = 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.suite) - set(SUITES):
        parser.error(f"no such suite: {', '.join(sorted(unknown))} (--list shows them)")
    if chosen.list:
        width = max(map(len, SUITES))
        _say("\n".join(f"{one.name:{width}}  {one.version:12}  {one.about}" for one in SUITES.values()))
        return 0
    for number in (signal.SIGINT, signal.SIGTERM):  # whatever a shell's `&` says: what was started is taken down
        signal.signal(number, signal.default_int_handler)
    results = [_run(SUITES[name], keep=chosen.keep) for name in chosen.suite or SUITES]
    _say("\n" + table([one for one in results if one is not None]))
    return 0 if all(one is not None and one.passed for one in results) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.suites", description=__doc__)
    parser.add_argument("suite", nargs="*", metavar="NAME", help="default: all of them")
    parser.add_argument("--list", action="store_true", help="show the suites, and run nothing")
    parser.add_argument("--keep", action="store_true", help="leave all output, results and the journal in a folder")
    return parser


def _run(suite: Suite, *, keep: bool) -> Result | None:
    _say(f"\n{suite.name} {suite.version}: {suite.about}")
    try:
        if keep:
            folder = Path(tempfile.mkdtemp(prefix=f"curfew-suite-{suite.name}-"))
            _say(f"  everything of it is in {folder}")
            result = run_suite(suite, folder, _say)
        else:
            result = run_in_scratch(suite, _say)
    except CannotFetchError as error:
        _say(f"cannot be run here: {error}")
        return None
    _say(report(result))
    return result


def report(result: Result) -> str:
    """What came of a suite: the counts, what was recorded, what fails on both ways, and what differs."""
    parts = [
        f"direct:  {count(result.direct)}",
        f"curfew:  {count(result.curfew)}",
        f"record:  {result.evidence}",
    ]
    if failing := _fail_alike(result.direct, result.curfew):
        parts.append(f"fail on both ways: {_listed(failing)}")
    for entry, shown in result.known.items():
        parts += ["reviewed: " + "\n          ".join(textwrap.wrap(entry.reason, 108))]
        parts.append(f"    {entry.change}: {_listed([one.test for one in shown])}")
    parts += [f"UNREVIEWED {one.test}: {one.change}\n{_said(one)}" for one in result.unreviewed]
    parts += [f"NO LONGER SO {', '.join(entry.tests)}: {entry.change}" for entry in result.gone]
    return "\n".join(parts)


def _fail_alike(direct: Outcomes, curfew: Outcomes) -> list[str]:
    failed = [test for test, one in direct.items() if one.status == "failed"]
    return [test for test in failed if test in curfew and curfew[test].status == "failed"]


def _listed(tests: Sequence[str]) -> str:
    more = f", and {len(tests) - _LISTED} more" if len(tests) > _LISTED else ""
    return ", ".join(tests[:_LISTED]) + more


def _said(difference: Difference) -> str:
    return textwrap.indent("\n".join(difference.lines[:_SAID_LINES]), "    ")


def table(results: Sequence[Result]) -> str:
    """README.md's table."""
    lines = [
        "| suite | version | pass direct | pass through | differ | statements recorded |",
        "|---|---|---|---|---|---|",
    ]
    for one in results:
        known = sum(len(shown) for shown in one.known.values())
        differ = f"{known} reviewed" if known else "none"
        differ += f", **{len(one.unreviewed)} not reviewed**" if one.unreviewed else ""
        counts = f"{passes(one.direct):,} | {passes(one.curfew):,} | {differ} | {one.evidence.statements:,}"
        lines.append(f"| {one.suite.name} | {one.suite.version} | {counts} |")
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 a command speaks to its caller


if __name__ == "__main__":
    sys.exit(main())
