"""Running cases: round by round, one way after the other, so that whatever else the machine does hits all alike."""

from collections.abc import Callable, Sequence

from tests.bench.cases import Amount, Case
from tests.bench.results import Result
from tests.bench.ways import Way


def run_case(case: Case, ways: Sequence[Way], amount: Amount, *, rounds: int, say: Callable[[str], None]) -> Result:
    """Measure `case` on every way, `rounds` times over."""
    result = Result(case=case)
    for number in range(1, rounds + 1):
        for way in ways:
            before = way.cpu_seconds()
            measured = case.run(way, amount)
            after = way.cpu_seconds()
            cpu = None if before is None or after is None else (after - before) / measured.operations
            result.add(way.name, measured.value, cpu)
            say(f"{case.name}  round {number}/{rounds}  {way.name:<10} {measured.value:>10.1f} {case.unit}")
    return result
