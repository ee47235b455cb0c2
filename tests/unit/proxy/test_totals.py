"""Totals: sums over workers that come and go."""

from prometheus_client import CollectorRegistry

from proxy.metrics import Metrics
from proxy.totals import Totals, read


class Sums:
    """Workers' counts by process id, and the sums."""

    def __init__(self) -> None:
        self.totals = Totals()
        self.workers: dict[int, Metrics] = {}

    def worker(self, pid: int) -> Metrics:
        """A new worker."""
        made = self.workers[pid] = Metrics()
        made.gauge("curfew_lease", "A lease.", lambda: True)
        made.gauge("curfew_sessions_live", "Sessions.", lambda: 2)
        return made

    def now(self) -> dict[str, float]:
        """All sums, by name with labels."""
        for pid, metrics in self.workers.items():
            self.totals.take(pid, read(metrics.registry))
        self.totals.retire_all_but(self.workers)
        return {
            sample.name + "".join(f"{{{value}}}" for value in sample.labels.values()): sample.value
            for family in self.totals.add_up(CollectorRegistry())
            for sample in family.samples
        }


def test_sums() -> None:
    """Counters, those with labels, histograms and gauges add up; of the lease there is the smallest."""
    sums = Sums()
    one, other = sums.worker(1), sums.worker(2)
    one.sessions, other.sessions = 3, 4
    one.ended["closed"], other.ended["closed"], other.ended["expired"] = 1, 2, 5
    one.stop_seconds.observe(0.2)
    other.stop_seconds.observe(0.3)
    now = sums.now()
    assert now["curfew_sessions_total"] == 7
    assert (now["curfew_ended_total{closed}"], now["curfew_ended_total{expired}"]) == (3, 5)
    assert (now["curfew_stop_seconds_count"], now["curfew_stop_seconds_sum"]) == (2, 0.5)
    assert (now["curfew_stop_seconds_bucket{0.25}"], now["curfew_stop_seconds_bucket{+Inf}"]) == (1, 2)
    assert (now["curfew_sessions_live"], now["curfew_lease"]) == (4, 1)
    other.gauge("curfew_lease", "A lease.", lambda: False)
    assert sums.now()["curfew_lease"] == 0


def test_a_worker_dies() -> None:
    """What it had counted stays, so that no counter falls; its gauges do not."""
    sums = Sums()
    one, other = sums.worker(1), sums.worker(2)
    one.sessions, other.sessions = 3, 4
    one.ended["killed"] = 1
    one.stop_seconds.observe(0.2)
    sums.now()
    del sums.workers[1]
    assert sums.now()["curfew_sessions_live"] == 2
    sums.worker(3).sessions = 1
    for _ in range(2):
        now = sums.now()
        assert now["curfew_sessions_total"] == 8
        assert (now["curfew_ended_total{killed}"], now["curfew_stop_seconds_count"]) == (1, 1)


def test_a_worker_is_silent() -> None:
    """It is asked in vain, but lives: its newest numbers count, once."""
    sums = Sums()
    sums.worker(1).sessions = 3
    sums.now()
    totals = sums.totals
    totals.retire_all_but([1])
    again = {sample.name: sample.value for one in totals.add_up(CollectorRegistry()) for sample in one.samples}
    assert again["curfew_sessions_total"] == 3
