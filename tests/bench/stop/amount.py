"""How much of it, and what is aimed at. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.pressure.finding import Finding, percentile

AIM_S = 1.0
"""DESIGN.md, promise 2: at the p99."""
LEADS_S = (5.0, 15.0, 45.0, 135.0)
"""How long before the grants' end sessions may begin. A machine that is too slow for one gets the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """How much."""

    sessions: int = 200
    crowd: int = 2_000
    revocations: int = 100
    workers: int = 1
    """Of the proxy, except where a control is part of it."""


def spread(what: str, seconds: Sequence[float]) -> list[Finding]:
    """The median, the p99, which is aimed at, and the longest."""
    values = list(seconds)
    return [
        Finding(what=f"{what}: p99", measured=percentile(values, 0.99), unit="s", aim=AIM_S),
        Finding(what="    p50", measured=percentile(values, 0.5), unit="s"),
        Finding(what="    max", measured=max(values), unit="s"),
    ]


def missed(what: str, count: int) -> Finding:
    """How many were not ended as they should be: none may be."""
    return Finding(what=what, measured=count, unit="", aim=0)
