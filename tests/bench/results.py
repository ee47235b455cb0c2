"""From measurements to medians, ratios and the JSON of DESIGN.md section 7. Pure; knows no process."""

from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tests.bench.cases import Case
from tests.bench.ways import CURFEW, DIRECT


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """What is measured beside others in one go, and so has no measurement of its own, as a case has."""

    name: str
    metric: str
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one case gave: by way, the figures of all rounds, and the CPU time of the process in between."""

    case: Case | Quantity
    figures: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    """Seconds for each operation."""

    def add(self, way: str, value: float, cpu: float | None) -> None:
        """Take one measurement."""
        self.figures.setdefault(way, []).append(value)
        if cpu is not None:
            self.cpu.setdefault(way, []).append(cpu)

    @property
    def values(self) -> dict[str, float]:
        """The median of each way."""
        return {way: median(figures) for way, figures in self.figures.items()}

    @property
    def ratios(self) -> dict[str, float]:
        """Curfew's median as a share of each other way's."""
        values = self.values
        return {way: values[CURFEW] / value for way, value in values.items() if way != CURFEW}

    @property
    def cpu_us(self) -> dict[str, float]:
        """The median CPU time for each operation, in microseconds."""
        return {way: median(spent) * 1e6 for way, spent in self.cpu.items()}

    def as_json(self) -> dict[str, Any]:
        """This case's entry."""
        return {
            "case": self.case.name,
            "metric": self.case.metric,
            "unit": self.case.unit,
            "values": {way: round(value, 2) for way, value in sorted(self.values.items())},
            "ratios": {way: round(ratio, 4) for way, ratio in sorted(self.ratios.items())},
        }


def table(results: list[Result]) -> str:
    """All results as text, a case a line; CPU is that of the process in between, for each operation."""
    others = [way for way in (results[0].values if results else {}) if way != CURFEW]
    heads = ["case", "unit", *others, CURFEW, *(f"/{way}" for way in others)]
    heads += [f"cpu {way}" for way in (*others, CURFEW) if way != DIRECT]
    rows = [heads]
    for one in results:
        shown = [f"{one.values[way]:.0f}" for way in (*others, CURFEW)]
        shares = [f"{one.ratios[way]:.2f}" for way in others]
        spent = [f"{one.cpu_us[way]:.1f} us" if way in one.cpu else "-" for way in (*others, CURFEW) if way != DIRECT]
        rows.append([one.case.name, one.case.unit, *shown, *shares, *spent])
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    return "\n".join(
        "  ".join(_pad(cell, width, index) for index, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    )


def _pad(cell: str, width: int, column: int) -> str:
    """Texts to the left, numbers to the right."""
    return cell.ljust(width) if column < 2 else cell.rjust(width)
