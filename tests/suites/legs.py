"""Whether the proxy changed a byte of a suite: what was said on its two legs, session by session.

A session that somebody cut (a client that was killed, a backend that was ended) has less on one leg than on the other,
and then that is the beginning of it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.harness.digest import Heard, Stream, Tap
from tests.harness.wire import TERMINATE

KEPT_BYTES = 1 << 16
FILE = "legs.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Legs:
    """How many sessions were the same on both legs, how many were cut, and what differs."""

    same: int = 0
    cut: int = 0
    different: tuple[str, ...] = ()

    def __str__(self) -> str:
        cut = f", and {self.cut:,} that were cut, as far as they went" if self.cut else ""
        return f"the same bytes on both legs in {self.same:,} sessions{cut}"

    def write(self, folder: Path) -> None:
        """Leave it in `folder`."""
        text = json.dumps({"same": self.same, "cut": self.cut, "different": self.different})
        (folder / FILE).write_text(text)

    @classmethod
    def read(cls, folder: Path) -> "Legs":
        """What `write` left there."""
        found = json.loads((folder / FILE).read_text())
        return cls(same=found["same"], cut=found["cut"], different=tuple(found["different"]))


def hold(client: Tap, upstream: Tap) -> Legs:
    """Hold the two against each other, once all sessions have ended."""
    there: dict[int, list[Heard]] = {}
    for heard in upstream.sessions:
        there.setdefault(heard.pid, []).append(heard)
    same = cut = 0
    different = []
    for here in client.sessions:
        if not there.get(here.pid):
            different.append(f"session of backend {here.pid}: not seen upstream")
            continue
        found = list(_judge(here, there[here.pid].pop(0)))
        different += [f"backend {here.pid}: {one}" for one in found if one]
        same += not found
        cut += found == [""]
    return Legs(same=same, cut=cut, different=tuple(different))


def _judge(here: Heard, there: Heard) -> Iterator[str]:
    """What differs; an empty text once where the session was cut and the rest is as it should be."""
    texts = [_differs(here.client, there.client), _differs(there.server, here.server)]
    wrong = [text for text in texts if text]
    if wrong:
        yield from wrong
    elif "" in texts:
        yield ""


def _differs(said: Stream, arrived: Stream) -> str | None:
    """None where all that was said has arrived, empty where only the first of it has, else how they differ.

    The proxy says Terminate for a client that leaves without.
    """
    if arrived.digest() in (said.digest(), said.digest(TERMINATE)):
        return None
    return "" if arrived.begins(said) else said.differs(arrived)
