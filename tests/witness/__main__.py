"""`python -m tests.witness [NAME ...]`: drive the clients, and hold PostgreSQL's own log against the journal.

Exit status 0: no differences. Else 1. A client that cannot be run here is named, and counts as no difference.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.harness.binaries import postgresql_bin, version_bin
from tests.harness.certs import Authority
from tests.oracle.stand import major_version
from tests.witness.clients import CLIENTS
from tests.witness.hypotheses import converse
from tests.witness.stand import Place, Verdict, witnessed

VERSIONS = (14, 18)
"""The oldest and the newest that Curfew serves. The installed one is tried as well."""
RANDOM = "random"
_SHOWN = 20
_HEADINGS = ("client", "sessions", "logged", "records", "refused or skipped", "values", "counted", "differences")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.witness", description=__doc__)
    parser.add_argument("name", nargs="*", metavar="NAME", help="default: all of them")
    parser.add_argument("--list", action="store_true", help="show the clients, and run nothing")
    parser.add_argument("--examples", type=int, default=300, metavar="N", help="conversations of the random client")
    parser.add_argument("--postgres", type=int, action="append", metavar="MAJOR", help="default: 14, the installed, 18")
    chosen = parser.parse_args(arguments)
    about = {**{name: client.about for name, client in CLIENTS.items()}, RANDOM: "whatever the protocol has"}
    if unknown := set(chosen.name) - set(about):
        parser.error(f"no such client: {', '.join(sorted(unknown))} (--list shows them)")
    if chosen.list:
        _say("\n".join(f"{name:18} {text}" for name, text in about.items()))
        return 0
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    found = 0
    for programs in [version_bin(major) for major in chosen.postgres or ()] or _programs():
        _say(f"\nPostgreSQL {major_version(programs)}\n{_row(_HEADINGS)}")
        with tempfile.TemporaryDirectory(prefix="curfew-witness-") as folder:
            found += asyncio.run(_all(programs, Path(folder), chosen.name or [*about], chosen.examples))
    return 1 if found else 0


def _programs() -> list[Path]:
    found = [postgresql_bin(), *(version_bin(major) for major in VERSIONS)]
    by_version = {major_version(programs): programs for programs in found}
    return [by_version[version] for version in sorted(by_version)]


async def _all(programs: Path, folder: Path, names: Sequence[str], examples: int) -> int:
    found = 0
    with witnessed(Authority(folder), folder / "proxy", programs) as place:
        for name in names:
            verdict = await _one(place, name, folder, examples)
            found += len(verdict.differences) if verdict is not None else 0
    return found


async def _one(place: Place, name: str, folder: Path, examples: int) -> Verdict | None:
    scratch = folder / name
    scratch.mkdir()
    if name != RANDOM and (lacking := CLIENTS[name].lacks()) is not None:
        _say(f"{name:18} not run: {lacking}")
        return None
    with place.stand() as stand:
        if name == RANDOM:
            verdict = await asyncio.to_thread(converse, place, stand, examples)
        else:
            await CLIENTS[name].use(stand, scratch)
            verdict = await place.judge(stand)
    counted = "-" if verdict.counted is None else f"{verdict.counted:,}"
    numbers = (verdict.sessions, verdict.logged, verdict.records, verdict.refused, verdict.values)
    _say(_row((name, *(f"{number:,}" for number in numbers), counted, str(len(verdict.differences) or "none"))))
    _say("".join(f"    {one}\n" for one in verdict.differences[:_SHOWN]), end="")
    return verdict


def _row(cells: Sequence[str]) -> str:
    return f"{cells[0]:18}" + "".join(
        f"{cell:>{len(heading) + 3}}" for cell, heading in zip(cells[1:], _HEADINGS[1:], strict=True)
    )


def _say(text: str, end: str = "\n") -> None:
    sys.stdout.write(text + end)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
