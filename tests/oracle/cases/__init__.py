"""The script, by topic."""

from tests.oracle.case import CASES
from tests.oracle.cases import cancelling, copying, malformed, opening, pipelines, portals, querying, starting

__all__ = [
    "CASES",
    "cancelling",
    "copying",
    "malformed",
    "opening",
    "pipelines",
    "portals",
    "querying",
    "starting",
]
