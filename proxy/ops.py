"""/metrics, /livez and /readyz, on a port of their own and in a thread of their own.

A thread, so that `/livez` can say when the event loop hangs: an answer from the loop itself could not.
"""

import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

HANG_S = 5.0
"""An event loop that has not come round for so long is not alive."""


class Counted(Protocol):
    """What /metrics shows."""

    @property
    def registry(self) -> CollectorRegistry:
        """Where it is collected from."""


class Probed(Protocol):
    """What the two probes ask: an empty answer is a good one."""

    def livez(self) -> list[str]:
        """Why the process should be restarted, if it should."""

    def readyz(self) -> list[str]:
        """Why no connections should be sent here, if so."""


class Health:
    """What the two probes answer. `beat` is called by the event loop; `faults` says why not ready."""

    def __init__(self, faults: Callable[[], list[str]]) -> None:
        self._faults = faults
        self._beaten = time.monotonic()

    def beat(self) -> None:
        """The event loop has come round."""
        self._beaten = time.monotonic()

    def livez(self) -> list[str]:
        """Why the process should be restarted, if it should."""
        silent = time.monotonic() - self._beaten
        return [f"the event loop has not come round for {silent:.0f} s"] if silent > HANG_S else []

    def readyz(self) -> list[str]:
        """Why no connections should be sent here, if so."""
        return self.livez() + self._faults()


class OpsServer:
    """The HTTP server of one process."""

    def __init__(self, host: str, port: int, metrics: Counted, health: Probed) -> None:
        """Bind. Raises OSError."""
        self._server = make_server(host, port, _application(metrics, health), handler_class=_QuietHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="ops", daemon=True)

    @property
    def port(self) -> int:
        """The port in use."""
        return int(self._server.server_port)

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def _application(metrics: Counted, health: Probed) -> "WSGIApplication":
    show_metrics: Any = make_wsgi_app(metrics.registry)

    def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            metrics_body: Iterable[bytes] = show_metrics(environ, start_response)
            return metrics_body
        probes = {"/livez": health.livez, "/readyz": health.readyz}
        if path not in probes:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"/metrics, /livez and /readyz are here\n"]
        faults = probes[path]()
        start_response("503 Service Unavailable" if faults else "200 OK", [("Content-Type", "text/plain")])
        return ["".join(f"{fault}\n" for fault in faults or ["ok"]).encode()]

    return application


class _QuietHandler(WSGIRequestHandler):
    """Does not log each request."""

    timeout = 5

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 the base class's signature
        """Say nothing."""
