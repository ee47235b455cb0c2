"""control's metrics, in a registry of their own so that several services can live in one process (the tests')."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

STOP_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class Metrics:
    """What `/metrics` shows."""

    registry: CollectorRegistry
    requests: Counter
    durations: Histogram
    authentication_failures: Counter
    records: Counter
    stops: Histogram
    faults: Counter
    tokens: Counter
    revocations: Counter
    locks: Counter
    reapings: Counter
    streams: Gauge
    followers: Gauge
    log_size: Gauge
    log_broken: Gauge
    log_published: Gauge
    log_publish_failures: Counter
    index_lag: Gauge

    def exposition(self) -> bytes:
        """The text that a Prometheus scrapes."""
        return generate_latest(self.registry)


def create() -> Metrics:
    """A fresh set."""
    registry = CollectorRegistry()
    name = "curfew_control"
    return Metrics(
        registry=registry,
        requests=Counter(f"{name}_http_requests", "HTTP requests", ["method", "route", "status"], registry=registry),
        durations=Histogram(f"{name}_http_request_seconds", "HTTP requests' time", ["route"], registry=registry),
        authentication_failures=Counter(
            f"{name}_authentication_failures", "Requests that were not authenticated", registry=registry
        ),
        records=Counter(f"{name}_records", "Records taken in", registry=registry),
        stops=Histogram(
            f"{name}_stop_seconds",
            "From the decision to end a session to its backend being gone",
            ["reason"],
            buckets=STOP_BUCKETS,
            registry=registry,
        ),
        faults=Counter(f"{name}_record_faults", "Records that were not what they should be", registry=registry),
        tokens=Counter(f"{name}_tokens", "Tokens issued", registry=registry),
        revocations=Counter(f"{name}_revocations", "Grants revoked", registry=registry),
        locks=Counter(f"{name}_locks", "Locks made", registry=registry),
        reapings=Counter(
            f"{name}_reapings", "Sessions of silent proxies that others were told to end, each time", registry=registry
        ),
        streams=Gauge(f"{name}_directive_streams", "Proxies that follow the directives now", registry=registry),
        followers=Gauge(f"{name}_session_followers", "Sessions that are followed now, streams", registry=registry),
        log_size=Gauge(f"{name}_log_size", "Records in the newest signed head of the log", registry=registry),
        log_broken=Gauge(
            f"{name}_log_broken", "1 where the store no longer has the log that was signed", registry=registry
        ),
        log_published=Gauge(
            f"{name}_log_published_size", "Records in the newest head that was published", ["target"], registry=registry
        ),
        log_publish_failures=Counter(
            f"{name}_log_publish_failures", "Heads that could not be published", ["target"], registry=registry
        ),
        index_lag=Gauge(
            f"{name}_index_lag_records", "Records that the index for searches does not have yet", registry=registry
        ),
    )
