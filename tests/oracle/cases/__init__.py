"""The script, by topic."""

from tests.oracle.case import CASES
from tests.oracle.cases import (
    cancelling,
    copying,
    from_outside,
    malformed,
    opening,
    pipelines,
    portals,
    querying,
    starting,
)

__all__ = [
    "CASES",
    "cancelling",
    "copying",
    "from_outside",
    "malformed",
    "opening",
    "pipelines",
    "portals",
    "querying",
    "starting",
]
