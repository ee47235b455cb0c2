"""What is counted, and its form for Prometheus.

Sessions add to plain numbers, because a Prometheus counter costs as much as relaying a message; `collect` turns them
into metrics when somebody asks. Names end in their unit, as Prometheus wants it.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

STOP_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics(Collector):
    """The counts of one proxy process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.connections = 0
        self.connections_refused: Counter[str] = Counter()
        """Connections closed for a limit, by the limit's name."""
        self.sessions = 0
        self.refused: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.statements = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.cancels = 0
        self.unverified_stops = 0
        self.worker_restarts = 0
        self.accounts: Counter[str] = Counter()
        """What became of roles that are made for grants: made, dropped, failed, trouble."""
        self.stop_seconds = Histogram(
            "curfew_stop_seconds",
            "From the decision to end a session to its backend's proven end.",
            buckets=STOP_BUCKETS_S,
            registry=self.registry,
        )
        self._read: dict[str, tuple[type[CounterMetricFamily | GaugeMetricFamily], str, Callable[[], float]]] = {}
        self.registry.register(self)

    def gauge(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """Show what `read` returns whenever somebody asks."""
        self._read[name] = (GaugeMetricFamily, help_text, read)

    def counter(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """As `gauge`, for what only grows and somebody else counts."""
        self._read[name] = (CounterMetricFamily, help_text, read)

    def collect(self) -> Iterator[Metric]:
        """Yield the counts (prometheus_client's Collector)."""
        for name, help_text, value in (
            ("curfew_connections", "Connections accepted.", self.connections),
            ("curfew_sessions", "Sessions admitted.", self.sessions),
            ("curfew_statements", "Statements recorded, of sessions that have ended.", self.statements),
            ("curfew_client_bytes", "Bytes from clients, of sessions that have ended.", self.bytes_in),
            ("curfew_upstream_bytes", "Bytes from PostgreSQL, of sessions that have ended.", self.bytes_out),
            ("curfew_cancel_requests", "Cancel requests received.", self.cancels),
            ("curfew_unverified_stops", "Sessions whose backend's end could not be proven.", self.unverified_stops),
            ("curfew_worker_restarts", "Workers that died and were started again.", self.worker_restarts),
        ):
            yield CounterMetricFamily(name, help_text, value)
        for name, help_text, label, counts in (
            ("curfew_refused", "Connections whose token was refused.", "refusal", self.refused),
            ("curfew_limited", "Connections closed for a limit.", "limit", self.connections_refused),
            ("curfew_ended", "Sessions that have ended.", "reason", self.ended),
            ("curfew_account_events", "Accounts made and dropped, and what went wrong.", "event", self.accounts),
        ):
            family = CounterMetricFamily(name, help_text, labels=[label])
            for of, count in sorted(counts.items()):
                family.add_metric([str(of)], count)
            yield family
        for name, (family_type, help_text, read) in self._read.items():
            yield family_type(name, help_text, read())
