"""Says the script on both ways, compares, and holds what differs against the reviewed list."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.oracle import differences, stand
from tests.oracle.case import Case
from tests.oracle.lines import Line
from tests.oracle.lines import differences as compare
from tests.oracle.talk import Over, Talk, Way

AT_ONCE = 4
"""Cases under way at the same time. The two ways of one case take turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one case gave on one version of PostgreSQL."""

    case: str
    version: int
    differs: tuple[str, ...]
    expected: tuple[str, ...]
    """What the reviewed list says that differs."""
    reason: str | None
    """Why that is right, where the list has it."""
    own_words: bool
    """Curfew said an error in its own words; its severity and SQLSTATE are PostgreSQL's."""
    direct: Sequence[Line] = ()
    curfew: Sequence[Line] = ()

    @property
    def same(self) -> bool:
        """Whether both answered alike."""
        return not self.differs

    @property
    def passed(self) -> bool:
        """Whether it is as it should be: the same, or the reviewed difference and no other."""
        return differences.agrees(self.differs, self.expected)

    def as_json(self) -> dict[str, Any]:
        """This case's entry, as DESIGN.md section 7 has it, and the version."""
        reason = self.reason if self.passed else "not reviewed: " + "; ".join(self.differs or ("no difference",))
        return {"case": self.case, "same": self.same, "reason": reason, "postgresql": self.version}


def run_version(programs: Path, cases: Iterable[Case], on_result: Callable[[Result], None]) -> list[Result]:
    """Every case against one PostgreSQL, in the cases' order."""
    version = stand.major_version(programs)
    with stand.ready(programs) as (direct, curfew):
        return asyncio.run(_run(tuple(cases), direct, curfew, version, on_result))


async def _run(
    cases: Sequence[Case], direct: Way, curfew: Way, version: int, on_result: Callable[[Result], None]
) -> list[Result]:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(case: Case) -> Result:
        async with room:
            result = judged(case.name, version, await say(case, direct), await say(case, curfew))
        on_result(result)
        return result

    return await asyncio.gather(*(one(case) for case in cases))


async def say(case: Case, way: Way) -> list[Line]:
    """What is answered to a case on one way."""
    async with Talk(way) as talk:
        with contextlib.suppress(Over):
            await case.script(talk)
    return talk.lines


def judged(case: str, version: int, direct: Sequence[Line], curfew: Sequence[Line]) -> Result:
    """Hold the two answers against each other, and what differs against the list."""
    listed = differences.reviewed(case, version)
    return Result(
        case=case,
        version=version,
        differs=compare(direct, curfew),
        expected=() if listed is None else tuple(listed.cases[case]),
        reason=None if listed is None else listed.reason,
        own_words=any(line.own for line in curfew),
        direct=direct,
        curfew=curfew,
    )
