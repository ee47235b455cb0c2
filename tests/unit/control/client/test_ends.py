"""Waiting for the proof that sessions have ended."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
import typer

from control.client.answers import Session
from control.client.ends import ending, prove
from control.client.errors import ClientError
from tests.unit.control.client.test_api import Clock, api

OVER = {
    "state": "ended",
    "ended_at": "2026-11-22T12:00:00Z",
    "end_reason": "revoked",
    "ended_by": "carol",
    "outcome": "rolled back",
}
Handler = Callable[[httpx2.Request], httpx2.Response]


def session(name: str) -> Session:
    """One that is open."""
    return Session(id=name, person="dba1", target="orders", database="shop", proxy="edge")


def answer(name: str, **more: Any) -> httpx2.Response:  # noqa: ANN401 JSON
    """What the service says of it."""
    known = {"id": name, "person": "dba1", "target": "orders", "database": "shop", "proxy": "edge", "state": "open"}
    return httpx2.Response(200, json=known | more)


def name_of(request: httpx2.Request) -> str:
    """The session that is asked for."""
    return request.url.path.rpartition("/")[2]


def test_each_end_is_told_as_it_is_proven(capsys: pytest.CaptureFixture[str]) -> None:
    """Who, where, how and how soon; then how many, how long it took, and the slowest backend."""
    clock, stops = Clock(), {"one": 0.029, "two": 0.31}

    def handler(request: httpx2.Request) -> httpx2.Response:
        clock.now += 0.25
        return answer(name_of(request), stop_s=stops[name_of(request)], **OVER)

    prove(api(handler), [session("one"), session("two")], 15, clock=clock, sleep=clock.sleep)
    assert capsys.readouterr().out.splitlines() == [
        "ended one: dba1 on orders/shop: revoked by carol, rolled back, gone in 29 ms",
        "ended two: dba1 on orders/shop: revoked by carol, rolled back, gone in 310 ms",
        "2 sessions ended, proven after 500 ms; backends gone at most 310 ms after the decision",
    ]


def test_nothing_open_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """A clear answer too."""
    prove(api(lambda _: httpx2.Response(500)), [], 15)
    assert capsys.readouterr().out == "no session was open\n"


def test_a_session_that_begins_meanwhile_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    """It began before the proxy had heard of the order; it is looked for until nothing is left."""
    clock, found = Clock(), iter([[session("late")], []])
    done = api(lambda request: answer(name_of(request), **OVER))
    prove(done, [], 15, again=lambda: next(found), clock=clock, sleep=clock.sleep)
    assert "ended late: " in capsys.readouterr().out
    assert next(found, None) is None


@pytest.mark.parametrize("busy", [True, False])
def test_what_is_not_proven_in_time_fails(busy: bool, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: FBT001 a column
    """Which sessions, through which proxy; even where the service answers at once, it is not asked without a pause."""
    clock, asked = Clock(), [0.0]

    def handler(request: httpx2.Request) -> httpx2.Response:
        asked[0] += 1
        clock.now += 0.001 if busy else float(request.url.params["wait_s"])
        return answer(name_of(request)) if name_of(request) == "stuck" else answer(name_of(request), **OVER)

    with pytest.raises(typer.Exit) as failed:
        prove(api(handler), [session("gone"), session("stuck")], 10, clock=clock, sleep=clock.sleep)
    assert failed.value.exit_code == 1
    shown = capsys.readouterr()
    assert "STILL OPEN stuck: dba1 on orders/shop, through proxy edge" in shown.out
    assert "1 of 2 not proven to have ended after 10s" in shown.err
    assert "the order stands" in shown.err
    assert asked[0] < 60


def test_a_service_that_goes_away_leaves_the_order_standing() -> None:
    """The person hears that it was given, and that more is not known."""
    with pytest.raises(ClientError, match="the order was given, and whether it is carried out is not known") as failed:
        prove(api(lambda _: httpx2.Response(503)), [session("one")], 15)
    assert "the order stands" in failed.value.hint


def test_ctrl_c_stops_the_waiting_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """130, as everywhere."""

    def handler(_: httpx2.Request) -> httpx2.Response:
        raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as stopped:
        prove(api(handler), [session("one")], 15)
    assert stopped.value.exit_code == 130
    assert "stopped waiting; the order stands" in capsys.readouterr().err


def test_what_is_not_known_of_an_end_is_left_out() -> None:
    """By an older service, or where nobody looked."""
    assert ending(Session(id="x")) == "unknown"
    assert ending(Session(id="x", end_reason="closed", outcome="nothing open")) == "closed, nothing open"
