"""Free TCP ports on loopback, of which two test runs on one machine rarely get the same. Binds nothing for long."""

import random
import socket

# Below Linux's ephemeral range (32768 to 60999), so that no outgoing connection takes the port as its own meanwhile.
_RANGE = range(15_000, 32_000)
_ATTEMPTS = 200
_given: set[int] = set()


def free_port() -> int:
    """A TCP port on which nothing listens, never the same twice in one process.

    Another process may still be faster: whoever binds it should try again with another port.
    """
    for _ in range(_ATTEMPTS):
        port = random.SystemRandom().choice(_RANGE)
        if port not in _given and _can_bind(port):
            _given.add(port)
            return port
    raise RuntimeError(f"no free port in {_RANGE}")


def _can_bind(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
