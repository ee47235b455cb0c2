"""A live timeline that outlasts its connection: where that breaks, or the service restarts, it is asked for again.

The service tells a live timeline from the start each time, its own items in the same order; so what was passed on is
counted, and that many are left out of the next telling. The last of them must be the one that it was: else the service
tells something else than before (its store was restored, or changed), and nothing more is passed on. What the books
have (`seq` null, but for transactions) can come in another place; those are known again by what they say.

Bounded: it holds a number, and each of the books' items; it gives up where the service stays away for GIVE_UP_S, or
ends the stream ENDS times although the session has not ended and nothing new has come.
"""

import time
from collections.abc import Callable, Generator
from contextlib import closing

import msgspec

from control.client import screen
from control.client.api import Api, segment
from control.client.errors import ClientError
from control.client.waiting import GIVE_UP_S, passing

LAST = ("end", "reaped", "refused")
"""The kinds of items with which a session is over."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
ENDS = 5
MOST_OF_THE_BOOKS = 10_000


_Place = tuple[str, int | None, str, bool]


class _Item(msgspec.Struct):
    kind: str
    seq: int | None = None
    at: str = ""
    text: str = ""
    finished: bool = True


def followed(
    api: Api,
    session_id: str,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[bytes]:
    """The lines of a session's live timeline, each once: the session, then its items until it is over."""
    told = _Told()
    heard, pause, ends = clock(), FIRST_PAUSE_S, 0
    while True:
        before, tellings = told.count, told.tellings
        try:
            with closing(api.lines(f"/v1/sessions/{segment(session_id)}/timeline", follow="true")) as lines:
                yield from told.fresh(lines)
            if told.over:
                return
            ends = ends + 1 if told.count == before else 1
            if ends >= ENDS:
                raise ClientError("the stream ends, and the session has not", hint="look at `curfew sessions`")
            trouble, heard = "the service has ended the stream", clock()
        except ClientError as error:
            if told.over:
                return
            heard = clock() if told.tellings > tellings else heard
            if not told.tellings or not passing(error) or clock() - heard > GIVE_UP_S:
                raise
            trouble = str(error)
        pause = FIRST_PAUSE_S if told.count > before else min(LONGEST_PAUSE_S, 2 * pause)
        screen.note(f"{trouble}; trying again in {pause:.1f} s, nothing is lost")
        sleep(pause)


class _Told:
    """What was passed on."""

    def __init__(self) -> None:
        self.over = False
        self.tellings = self.count = 0
        """How often the service has begun; and of its own items, how many were passed on."""
        self._last: _Place = ("", None, "", True)
        self._books: set[tuple[str, str, str]] = set()

    def fresh(self, lines: Generator[bytes]) -> Generator[bytes]:
        """Those of one telling's lines that were not passed on before."""
        head = next(lines, None)
        if head is None:
            return
        self.tellings += 1
        if self.tellings == 1:
            yield head
        else:
            screen.note("connected again")
        skip = self.count
        for line in lines:
            item = _read(line)
            if item.seq is None and item.kind != "transaction":
                said = item.kind, item.at, item.text
                if said in self._books:
                    continue
                if len(self._books) >= MOST_OF_THE_BOOKS:
                    raise ClientError("the session has more on the books than can be followed")
                self._books.add(said)
            elif skip:
                skip -= 1
                if not skip and _place(item) != self._last:
                    raise ClientError(
                        "the service tells another timeline than before: its store was restored, or changed",
                        hint="`curfew verify` says whether records are missing",
                    )
                continue
            else:
                self.count, self._last = self.count + 1, _place(item)
            self.over = self.over or item.kind in LAST
            yield line


def _place(item: _Item) -> _Place:
    return item.kind, item.seq, item.at, item.finished


def _read(line: bytes) -> _Item:
    try:
        return msgspec.json.decode(line, type=_Item)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ClientError(
            f"the service's answer is not what this version of curfew understands: {error}",
            hint="are both of one version?",
        ) from error
