"""Running a suite on both ways, and judging what came of it by the reviewed list."""

import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from tests.harness.processes import Process
from tests.suites import stand
from tests.suites.differences import Reviewed, reviewed
from tests.suites.evidence import Evidence, examine
from tests.suites.legs import Legs
from tests.suites.outcomes import CURFEW, DIRECT, Difference, Outcomes, compare
from tests.suites.suite import Place, Ran, Suite, Way

LASTS_S = 3 * 3_600.0
"""A run on one way that takes longer is ended; a grant lasts an hour more."""
SHOWN_EVERY_S = 15.0
_LINE = 100
_TAIL = 3_000

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a suite."""

    suite: Suite
    direct: Outcomes
    curfew: Outcomes
    evidence: Evidence
    unreviewed: Sequence[Difference]
    known: Mapping[Reviewed, Sequence[Difference]] = field(default_factory=dict)
    gone: Sequence[Reviewed] = ()
    """Entries of the reviewed list that did not show, though their tests were run."""

    @property
    def passed(self) -> bool:
        """Whether the ways are alike but for the reviewed list, something ran, and the evidence is whole."""
        ran = any(one.status == "passed" for one in self.direct.values())
        return ran and not self.unreviewed and not self.gone and self.evidence.whole


def run_suite(suite: Suite, folder: Path, say: Say) -> Result:
    """Run it on both ways, one after the other, in `folder`."""
    fetched = suite.fetch()
    direct = _run_way(suite, stand.direct, fetched, folder / DIRECT, say)
    curfew = _run_way(suite, stand.through_curfew, fetched, folder / CURFEW, say)
    return judge(suite, direct, curfew, evidence_in(folder / CURFEW))


def evidence_in(folder: Path) -> Evidence:
    """What a run through Curfew left there on record."""
    return examine(folder / "state", folder / stand.STATEMENT_LOG, stand.USER, Legs.read(folder))


def judge(suite: Suite, direct: Outcomes, curfew: Outcomes, evidence: Evidence) -> Result:
    """Hold what differs against the reviewed list."""
    entries = reviewed(suite.name)
    known: dict[Reviewed, list[Difference]] = {}
    unreviewed = []
    for difference in compare(direct, curfew):
        entry = next((one for one in entries if one.covers(difference)), None)
        if entry is None:
            unreviewed.append(difference)
        else:
            known.setdefault(entry, []).append(difference)
    ran = {**direct, **curfew}
    steady = [one for one in entries if not one.sometimes]
    gone = [one for one in steady if one not in known and any(one.names(test) for test in ran)]
    return Result(
        suite=suite,
        direct=direct,
        curfew=curfew,
        evidence=evidence,
        unreviewed=unreviewed,
        known=known,
        gone=gone,
    )


def _run_way(
    suite: Suite,
    ready: Callable[[Suite, Path], AbstractContextManager[Way]],
    fetched: tuple[Path, Path],
    folder: Path,
    say: Say,
) -> Outcomes:
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    for closed in (folder.parent, folder, scratch):  # some have the server read and write files
        closed.chmod(0o755)
    scratch.chmod(0o777)
    began = time.monotonic()
    with ready(suite, folder) as way:
        shown = _Shown(f"{suite.name}, {way.name}", folder / "output", say)
        place = Place(source=fetched[0], python=fetched[1], scratch=scratch, run=shown.run)
        outcomes = suite.run(place, way)
    passed = sum(one.status == "passed" for one in outcomes.values())
    say(f"{suite.name}, {way.name}: {passed:,} of {len(outcomes):,} passed in {time.monotonic() - began:.0f} s")
    if not passed:
        say((folder / "output").read_text()[-_TAIL:])
    return outcomes


class _Shown:
    """Runs commands, and shows how they get on: their last line, every so often. All their output is kept."""

    def __init__(self, title: str, output: Path, say: Say) -> None:
        self._title = title
        self._output = output
        self._say = say
        output.touch()

    def run(self, command: Sequence[str | Path], folder: Path, environment: Mapping[str, str]) -> Ran:
        """Run it to its end, or to the end of the time that there is."""
        deadline = time.monotonic() + LASTS_S
        status = None
        with Process(command, folder=folder, environment=environment) as process:
            while status is None and time.monotonic() < deadline:
                try:
                    status = process.wait(within=SHOWN_EVERY_S)
                except subprocess.TimeoutExpired:
                    self._say(f"  {self._title}: {_last_line(process.output)}")
            status = process.kill() if status is None else status
        with self._output.open("a") as file:
            file.write(process.output)
        return Ran(status=status, output=process.output)


def _last_line(output: str) -> str:
    lines = output.rsplit("\n", 3)
    return next((line.strip()[:_LINE] for line in reversed(lines) if line.strip()), "...")


def run_in_scratch(suite: Suite, say: Say) -> Result:
    """The same in a temporary folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix=f"curfew-suite-{suite.name}-") as folder:
        return run_suite(suite, Path(folder), say)
