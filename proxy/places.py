"""Where the processes of one proxy keep what they know, below `state_dir`. Names folders; never reads or makes any.

A proxy of one process keeps all of it in `state_dir` itself. Of several workers, each has `state_dir/worker-K` for its
journal and for what it has heard from control; the key, and the membership that all begin with, are the proxy's.
"""

from dataclasses import dataclass
from pathlib import Path

JOURNAL = "journal"
_WORKER = "worker-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One process's folders."""

    home: Path
    """The proxy's: its key and its membership."""
    own: Path
    """This process's: its journal, and what it has heard itself."""
    first: bool
    """Whether it does what is to be done once: join, and look after journals that are nobody's any more."""


def of_worker(home: Path, number: int) -> Place:
    """The place of worker `number`, counted from 1."""
    return Place(home=home, own=home / f"{_WORKER}{number}", first=number == 1)


def of_single(home: Path) -> Place:
    """The place of a proxy of one process."""
    return Place(home=home, own=home, first=True)


def of_workers_ever(home: Path) -> list[Path]:
    """The folders of all workers that this proxy ever had."""
    found = (one for one in home.glob(f"{_WORKER}*") if one.name.removeprefix(_WORKER).isdecimal())
    return sorted(found, key=lambda one: int(one.name.removeprefix(_WORKER)))


def owned_by_nobody(home: Path, workers: int) -> list[Path]:
    """The folders of processes that there are no more, since the proxy had another number of workers once."""
    owned = {of_worker(home, number).own for number in range(1, workers + 1)} if workers > 1 else {home}
    return [one for one in (home, *of_workers_ever(home)) if one not in owned]


def left_behind(home: Path, workers: int) -> list[Path]:
    """Those of them with journals."""
    return [one for one in owned_by_nobody(home, workers) if (one / JOURNAL).is_dir()]
