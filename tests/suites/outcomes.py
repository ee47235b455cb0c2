"""What came of a suite's tests: reading it from JUnit's XML, and comparing one way with the other.

Compares tests by name and by outcome. What may differ is `differences`'; nothing is run here.
"""

import difflib
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Status: TypeAlias = Literal["passed", "failed", "skipped", "missing"]
ORDER: tuple[Status, ...] = ("passed", "failed", "skipped", "missing")
_SAID_FIRST, _SAID_LAST = 1_000, 2_000
DIRECT: Literal["direct"] = "direct"
CURFEW: Literal["curfew"] = "curfew"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one test on one way."""

    status: Status
    said: str = ""
    """Why it failed or was skipped."""
    shown: str = ""
    """What must be the same on both ways as well, such as a program's output."""


Outcomes: TypeAlias = Mapping[str, Outcome]
"""By the test's name."""
NOT_THERE = Outcome(status="missing", said="no such test was run on this way")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A test that did not come out alike."""

    test: str
    direct: Outcome
    curfew: Outcome

    @property
    def change(self) -> str:
        """Such as `passed -> failed`, what Curfew makes of it last; `otherwise` where only what is shown differs."""
        otherwise = " otherwise" if self.direct.status == self.curfew.status else ""
        return f"{self.direct.status} -> {self.curfew.status}{otherwise}"

    @property
    def lines(self) -> list[str]:
        """What was shown or said on one way alone."""
        direct, curfew = ((one.shown or one.said).splitlines() for one in (self.direct, self.curfew))
        return [*difflib.unified_diff(direct, curfew, lineterm="", n=0)][2:]


def compare(direct: Outcomes, curfew: Outcomes) -> list[Difference]:
    """Every test that did not come out the same on both ways; what only one way has is a difference, too."""
    pairs = {test: (direct.get(test, NOT_THERE), curfew.get(test, NOT_THERE)) for test in {**direct, **curfew}}
    return [
        Difference(test=test, direct=one, curfew=other)
        for test, (one, other) in pairs.items()
        if (one.status, one.shown) != (other.status, other.shown)
    ]


def count(outcomes: Outcomes) -> str:
    """Such as `309 passed, 20 skipped`."""
    found = Counter(one.status for one in outcomes.values())
    return ", ".join(f"{found[status]:,} {status}" for status in ORDER if found[status]) or "nothing ran"


def passes(outcomes: Outcomes) -> int:
    """How many passed."""
    return sum(one.status == "passed" for one in outcomes.values())


def read_junit(paths: Iterable[Path]) -> dict[str, Outcome]:
    """The outcomes in JUnit's XML files. A test that is there twice (its teardown failed as well) has its worst one."""
    found: dict[str, Outcome] = {}
    for path in paths:
        for case in ET.parse(path).iter("testcase"):
            name = f"{case.get('classname', '')}::{case.get('name', '')}"
            outcome = _outcome(case)
            if name not in found or outcome.status == "failed":
                found[name] = outcome
    return found


def _outcome(case: ET.Element) -> Outcome:
    for tag, status in (("error", "failed"), ("failure", "failed"), ("skipped", "skipped")):
        for child in case.iter(tag):
            said = "\n".join(part for part in (child.get("message"), child.text) if part)
            if len(said) > _SAID_FIRST + _SAID_LAST:  # pytest has what matters last, JUnit has it first
                said = f"{said[:_SAID_FIRST]}\n...\n{said[-_SAID_LAST:]}"
            return Outcome(status=status, said=said)  # type: ignore[arg-type]  # of the two above
    return Outcome(status="passed")
