"""`curfew-proxy` that records nothing, which no configuration can have: what the others are held against.

Nothing is written, synced or hashed. The text of a record is still put together, in C, for the shortcut does that by
itself: some of the journal's cost is so on both sides.
"""

import sys
from unittest.mock import patch

from proxy import server, session
from proxy.cli import main
from proxy.contract.chain import Chain
from proxy.journal import Journal


class Unwritten(Journal):
    """A journal that forgets."""

    def append(self, line: bytes) -> None:
        """Do nothing."""

    def append_lazily(self, line: bytes) -> None:
        """Do nothing."""


class Unchained(Chain):
    """A chain whose links nobody takes the hash of."""

    def settle(self) -> None:
        """Do nothing."""


def launch() -> int:
    """Run the command to its end."""
    with patch.object(server, "Journal", Unwritten), patch.object(session, "Chain", Unchained):
        return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(launch())
