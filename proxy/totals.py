"""What the workers of a proxy count, added up: the proxy's counters go on where a worker that died was last seen."""

from collections.abc import Collection, Iterator, Mapping

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

SMALLEST = frozenset({"curfew_lease"})
"""Gauges of which the whole proxy has the smallest: what holds for it must hold for each worker."""
_BORN = "_created"
"""What prometheus_client adds to counters and histograms: since when they count."""

_Key = tuple[str, tuple[tuple[str, str], ...]]


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One number."""

    name: str
    labels: dict[str, str]
    value: float


class Family(msgspec.Struct, frozen=True, array_like=True):
    """A metric and its numbers."""

    name: str
    text: str
    kind: str
    samples: list[Sample]


def read(registry: CollectorRegistry) -> list[Family]:
    """What one process counts, in a form that can be sent."""
    return [
        Family(
            one.name,
            one.documentation,
            one.type,
            [Sample(sample.name, dict(sample.labels), float(sample.value)) for sample in one.samples],
        )
        for one in registry.collect()
    ]


class Totals:
    """Adds up. Fed with each worker's newest numbers, by process id, and told which processes are left."""

    def __init__(self) -> None:
        self._newest: dict[int, list[Family]] = {}
        self._gone: dict[_Key, float] = {}
        """What workers that are gone had counted."""

    def take(self, pid: int, families: list[Family]) -> None:
        """What this worker counts now."""
        self._newest[pid] = families

    def retire_all_but(self, pids: Collection[int]) -> None:
        """Other workers are gone: their counters stay, their gauges do not."""
        for pid in self._newest.keys() - set(pids):
            for family in self._newest.pop(pid):
                for one in family.samples if family.kind != "gauge" else ():
                    if not one.name.endswith(_BORN):
                        self._gone[_key(one)] = self._gone.get(_key(one), 0) + one.value

    def add_up(self, own: CollectorRegistry) -> Iterator[Metric]:
        """All of it, and the supervisor's `own`."""
        families: dict[str, Family] = {}
        sums: dict[str, dict[_Key, float]] = {}
        for counted in (read(own), *self._newest.values()):
            for family in counted:
                families.setdefault(family.name, family)
                _add(sums.setdefault(family.name, {}), family)
        for name, family in families.items():
            metric = Metric(name, family.text, family.kind)
            for (sample, labels), value in self._with_gone(family, sums[name]).items():
                metric.add_sample(sample, dict(labels), value)
            yield metric

    def _with_gone(self, family: Family, sums: Mapping[_Key, float]) -> Mapping[_Key, float]:
        if family.kind == "gauge":
            return sums
        names = {family.name, f"{family.name}_total", *(f"{family.name}_{end}" for end in ("bucket", "count", "sum"))}
        gone = {key: value for key, value in self._gone.items() if key[0] in names}
        return {key: sums.get(key, 0) + gone.get(key, 0) for key in (*sums, *(key for key in gone if key not in sums))}


def _key(sample: Sample) -> _Key:
    return sample.name, tuple(sorted(sample.labels.items()))


def _add(sums: dict[_Key, float], family: Family) -> None:
    for sample in family.samples:
        key = _key(sample)
        if family.name in SMALLEST or sample.name.endswith(_BORN):
            sums[key] = min(sums.get(key, sample.value), sample.value)
        else:
            sums[key] = sums.get(key, 0) + sample.value
