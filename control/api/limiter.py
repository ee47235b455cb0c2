"""Counting failed authentications by address, so that trying has a cost.

Only failures are counted and only failures are refused: a good key passes whatever its neighbours behind the same
address did. Keys are 256 random bits, so this is not what keeps them from being guessed; it keeps a loop of bad ones
from filling the log, and tells a misconfigured client to stop.
"""

import time
from collections import OrderedDict

FAILURES = 20
WINDOW_S = 60.0
ADDRESSES = 10_000


class FailureCounter:
    """Failures in the current window of each address; the address that failed longest ago is forgotten first."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def failed(self, address: str) -> float | None:
        """Count a failure. Where there were too many: in how many seconds to try again."""
        now = time.monotonic()
        since, count = self._counts.pop(address, (now, 0))
        if now - since >= WINDOW_S:
            since, count = now, 0
        self._counts[address] = (since, count + 1)
        if len(self._counts) > ADDRESSES:
            self._counts.popitem(last=False)
        return None if count < FAILURES else since + WINDOW_S - now
