"""What a campaign is asked to do, and what it reports."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of it."""

    rounds: int = 20
    """Faults, for campaigns that count them."""
    seconds: float = 60.0
    """For campaigns that go on for a time."""


DEFAULT = Plan()


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One campaign's counts. All but `rounds` should be 0."""

    campaign: str
    rounds: int
    lost: int
    """Statements that PostgreSQL executed and the journal does not have."""
    doubled: int
    """Statements that the journal has more often than PostgreSQL executed them, beyond one in flight a session."""
    late: int
    """Backends that outlived the proxy by more than the dead man's switch allows (DESIGN.md, promise 3)."""
    leftover: int
    """Sessions without an end, broken chains, and backends that were still there once the proxy was back."""

    @property
    def clean(self) -> bool:
        """Whether nothing went wrong."""
        return not (self.lost or self.doubled or self.late or self.leftover)
