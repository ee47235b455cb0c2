"""/metrics, /livez and /readyz, asked over HTTP on a free port."""

import http.client
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy import ops
from proxy.metrics import Metrics
from proxy.ops import Health, OpsServer


class Stand:
    """An ops server on a free port, and what it is asked about."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.metrics = Metrics()
        self.health = Health(lambda: self.faults)
        self.server = OpsServer("127.0.0.1", 0, self.metrics, self.health)
        self.server.start()

    def ask(self, path: str, method: str = "GET") -> tuple[int, str]:
        """The status and the text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def sample(self, name: str, **labels: str) -> float | None:
        """What /metrics says of this one; None where it is not there."""
        status, text = self.ask("/metrics")
        assert status == 200
        samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
        return next((one.value for one in samples if (one.name, one.labels) == (name, labels)), None)


@pytest.fixture
def stand() -> Iterator[Stand]:
    """One that is well."""
    made = Stand()
    yield made
    made.server.close()


def test_well(stand: Stand) -> None:
    """Both probes say so."""
    assert stand.ask("/livez") == (200, "ok\n")
    assert stand.ask("/readyz") == (200, "ok\n")


def test_not_ready(stand: Stand) -> None:
    """Each fault on its line; it lives all the same, and is ready again when they are gone."""
    stand.faults = ["no lease", "the journal is full"]
    assert stand.ask("/readyz") == (503, "no lease\nthe journal is full\n")
    assert stand.ask("/livez") == (200, "ok\n")
    stand.faults = []
    assert stand.ask("/readyz")[0] == 200


def test_the_event_loop_hangs(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither alive nor ready while no beat comes."""
    now = time.monotonic()
    monkeypatch.setattr("proxy.ops.time.monotonic", lambda: now + ops.HANG_S + 1)
    assert stand.ask("/livez") == (503, "the event loop has not come round for 6 s\n")
    assert stand.ask("/readyz")[0] == 503
    stand.health.beat()
    assert stand.ask("/livez")[0] == 200


@pytest.mark.parametrize("path", ["/", "/metrics/", "/livez/..", "/%2e%2e/etc/passwd", "/livez%00"])
def test_nothing_else(stand: Stand, path: str) -> None:
    """404 with a word on what there is."""
    assert stand.ask(path) == (404, "/metrics, /livez and /readyz are here\n")


def test_a_query_string_is_no_part_of_the_path(stand: Stand) -> None:
    """As probes may add one."""
    assert stand.ask("/livez?verbose=1")[0] == 200


def test_counters(stand: Stand) -> None:
    """Every count under its name, with Prometheus's suffix."""
    metrics = stand.metrics
    metrics.connections, metrics.sessions, metrics.statements = 5, 4, 3
    metrics.bytes_in, metrics.bytes_out, metrics.cancels, metrics.unverified_stops = 2**40, 7, 8, 9
    assert stand.sample("curfew_connections_total") == 5
    assert stand.sample("curfew_sessions_total") == 4
    assert stand.sample("curfew_statements_total") == 3
    assert stand.sample("curfew_client_bytes_total") == 2**40
    assert stand.sample("curfew_upstream_bytes_total") == 7
    assert stand.sample("curfew_cancel_requests_total") == 8
    assert stand.sample("curfew_unverified_stops_total") == 9


def test_labels(stand: Stand) -> None:
    """Refusals, limits and ends by their own names."""
    stand.metrics.refused["expired"] += 2
    stand.metrics.connections_refused["descriptors"] += 1
    stand.metrics.ended["revoked"] += 3
    assert stand.sample("curfew_refused_total", refusal="expired") == 2
    assert stand.sample("curfew_limited_total", limit="descriptors") == 1
    assert stand.sample("curfew_ended_total", reason="revoked") == 3
    assert stand.sample("curfew_ended_total", reason="killed") is None


def test_gauges_are_read_when_asked(stand: Stand) -> None:
    """What they show is of that moment."""
    live = 1.0
    stand.metrics.gauge("curfew_live", "Live.", lambda: live)
    assert stand.sample("curfew_live") == 1
    live = 2.0
    assert stand.sample("curfew_live") == 2


def test_stops_are_measured(stand: Stand) -> None:
    """In the buckets that the promise of one second needs."""
    stand.metrics.stop_seconds.observe(0.07)
    assert stand.sample("curfew_stop_seconds_bucket", le="0.05") == 0
    assert stand.sample("curfew_stop_seconds_bucket", le="0.1") == 1
    assert stand.sample("curfew_stop_seconds_bucket", le="1.0") == 1


def test_it_is_quiet(stand: Stand, capfd: pytest.CaptureFixture[str]) -> None:
    """A probe every second leaves no line anywhere."""
    stand.ask("/livez")
    stand.ask("/nothing")
    assert capfd.readouterr() == ("", "")


def test_a_port_that_is_taken(stand: Stand) -> None:
    """Is an OSError when it is made, not later."""
    with pytest.raises(OSError, match="in use"):
        OpsServer("127.0.0.1", stand.server.port, Metrics(), stand.health)


def test_closed() -> None:
    """Nobody answers there any more."""
    stand = Stand()
    port = stand.server.port
    stand.server.close()
    refused: Callable[[], socket.socket] = lambda: socket.create_connection(("127.0.0.1", port), timeout=5)  # noqa: E731 named for the reader
    with pytest.raises(ConnectionRefusedError):
        refused()
