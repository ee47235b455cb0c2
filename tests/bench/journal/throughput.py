"""Transactions per second through three proxies at the same time: no journal, `process`, `disk`. Interleaved rounds."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from tests.bench.cases import CASES, Amount
from tests.bench.results import Result
from tests.bench.runner import run_case
from tests.bench.stand import furnished, through_curfew
from tests.bench.ways import CURFEW, Way

NONE = "none"
DURABILITIES = ("process", "disk")
NAMES = ("select-simple-1", "select-simple-8", "select-prepared-1", "select-prepared-8")
AIM = 0.9
"""What `process` is to have of `none`."""


def measure(amount: Amount, rounds: int, say: Callable[[str], None]) -> list[Result]:
    """Each case in both durabilities, with what the same rounds gave without a journal."""
    found: list[Result] = []
    with _ready(amount) as ways:
        for name in NAMES:
            together = run_case(CASES[name], ways, amount, rounds=rounds, say=say)
            found += [_beside_none(together, durability) for durability in DURABILITIES]
    return found


def missed(found: list[Result]) -> list[str]:
    """The cases that do not reach the aim."""
    return [one.case.name for one in found if one.case.name.endswith("-process") and one.ratios[NONE] < AIM]


def _beside_none(together: Result, durability: str) -> Result:
    one = Result(case=replace(together.case, name=f"{together.case.name}-{durability}"))
    for way, known in ((NONE, NONE), (durability, CURFEW)):
        one.figures[known] = together.figures[way]
        if way in together.cpu:
            one.cpu[known] = together.cpu[way]
    return one


@contextmanager
def _ready(amount: Amount) -> Iterator[list[Way]]:
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="curfew-bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        cluster, _ = stack.enter_context(furnished(folder, amount))
        none = through_curfew(folder / NONE, cluster, name=NONE, launcher="tests.bench.journal.unrecorded")
        ways = [stack.enter_context(none)]
        for durability in DURABILITIES:
            target = {"durability": durability}
            way = through_curfew(folder / durability, cluster, name=durability, target=target)
            ways.append(stack.enter_context(way))
        yield ways
