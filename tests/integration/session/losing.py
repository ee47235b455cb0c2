"""`curfew-proxy` that takes a peer for vanished when its port stands in the file `lost` of its state folder.

For real, a network would have to swallow everything for 90 s (`tests.faults.blackhole`).
"""

import socket
import sys
from pathlib import Path
from unittest.mock import patch

from proxy import vanished
from proxy.cli import main

EVERY_S = 0.5


def launch() -> int:
    """Run the command to its end."""
    file = Path(sys.argv[sys.argv.index("--config") + 1]).parent / "state" / "lost"

    def is_lost(connected: socket.socket | None) -> bool:
        if connected is None or not file.exists():
            return False
        return int(file.read_text()) in (connected.getsockname()[1], connected.getpeername()[1])

    with patch.object(vanished, "EVERY_S", EVERY_S), patch.object(vanished, "has_vanished", is_lost):
        return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(launch())
