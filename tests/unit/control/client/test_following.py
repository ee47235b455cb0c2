"""Following over connections that break: each item once, none lost, and an end to trying."""

import json
from collections.abc import Generator, Sequence
from typing import Any

import httpx2
import pytest

from control.client import following
from control.client.api import Api
from control.client.config import Login
from control.client.errors import ClientError
from control.client.waiting import GIVE_UP_S

START, END = {"kind": "start", "seq": 0}, {"kind": "end", "seq": 9}
BEGUN, DONE = {"kind": "statement", "seq": 1, "finished": False}, {"kind": "statement", "seq": 1}
UNDONE = {"kind": "transaction", "seq": None, "at": "t"}
LOCKED = {"kind": "lock", "seq": None, "at": "t", "text": "locked"}
Telling = Sequence[dict[str, Any] | Exception] | int
"""What one connection brings; at the exception it breaks. A number is a refusal."""


class Stage:
    """A service that tells these, one at each connection; the clock goes with what is slept."""

    def __init__(self, *tellings: Telling) -> None:
        self._tellings = list(tellings)
        self.slept: list[float] = []

    def answer(self, _: httpx2.Request) -> httpx2.Response:
        """The next telling."""
        telling = self._tellings.pop(0) if len(self._tellings) > 1 else self._tellings[0]
        if isinstance(telling, int):
            return httpx2.Response(telling, json={"title": "no"})
        return httpx2.Response(200, content=self._lines(telling))

    @staticmethod
    def _lines(telling: Sequence[dict[str, Any] | Exception]) -> Generator[bytes]:
        yield b'{"session":{}}\n'
        for one in telling:
            if isinstance(one, Exception):
                raise one
            yield json.dumps(one).encode() + b"\n"

    def followed(self) -> list[dict[str, Any]]:
        """All that is passed on, but for the session."""
        login = Login(url="http://127.0.0.1", api_key="k")
        with Api(login, transport=httpx2.MockTransport(self.answer)) as api:
            lines = following.followed(api, "ses", sleep=self.slept.append, clock=lambda: sum(self.slept))
            return [json.loads(line) for line in lines][1:]


BROKEN = httpx2.ReadError("reset")


@pytest.mark.parametrize(
    "tellings",
    [
        [[START, BEGUN, DONE, LOCKED, END]],
        [[START, BEGUN, BROKEN], [START, BEGUN, DONE, LOCKED, END]],
        [[BROKEN], [START, BROKEN], [START, BEGUN, DONE, BROKEN], 503, [START, LOCKED, BEGUN, DONE, END]],
        [[START, BEGUN, DONE], [START, BEGUN, DONE], [START, BEGUN, DONE, LOCKED, END, BROKEN]],
        [[START, BEGUN, LOCKED, BROKEN], [START, LOCKED, BEGUN, DONE, END]],
    ],
)
def test_each_item_comes_once(tellings: list[Telling], capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever breaks, and wherever the books have put theirs meanwhile."""
    stage = Stage(*tellings)
    told = stage.followed()
    assert [one for one in told if one != LOCKED] == [START, BEGUN, DONE, END]
    assert told.count(LOCKED) == 1
    assert len(stage.slept) == len(tellings) - 1
    assert capsys.readouterr().err.count("trying again") == len(stage.slept)


def test_items_that_are_no_records(capsys: pytest.CaptureFixture[str]) -> None:
    """Two that say the same are two."""
    assert Stage([START, UNDONE, BROKEN], [START, UNDONE, UNDONE, END]).followed() == [START, UNDONE, UNDONE, END]
    assert "connected again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("tellings", "said"),
    [
        ([404], "no"),
        ([[START, BROKEN], 403], "no"),
        ([[START, BEGUN, BROKEN], [START, DONE, END]], "another timeline than before"),
        ([[START]], "the stream ends, and the session has not"),
        ([[START, BROKEN], 503], "no"),
        ([503], "no"),
        ([[START, {"seq": 1}]], "not what this version of curfew understands"),
    ],
)
def test_it_gives_up(tellings: list[Telling], said: str) -> None:
    """At once where trying again is no use; after a while where it could have been."""
    stage = Stage(*tellings)
    with pytest.raises(ClientError, match=said):
        stage.followed()
    assert sum(stage.slept) < GIVE_UP_S + 2 * following.LONGEST_PAUSE_S
