"""What was found, and whether it is what was aimed at. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One figure. Without an aim it is there to judge the others by."""

    what: str
    measured: float
    unit: str
    aim: float | None = None
    """The most that it may be."""

    @property
    def missed(self) -> bool:
        """Whether it is more than it may be."""
        return self.aim is not None and self.measured > self.aim

    def __str__(self) -> str:
        aim = "" if self.aim is None else f"   aim: at most {self.aim:g} {self.unit}"
        return f"{self.what:<58} {self.measured:>9.2f} {self.unit:<4}{aim}{'   MISSED' if self.missed else ''}"


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of the values are."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
