"""The HTTP client against answers of every kind; the transport is httpx2's own in-memory one, no socket is opened."""

import itertools
import json
import ssl
from collections.abc import Callable

import httpx2
import pytest

from control.client import naming, waiting
from control.client.answers import Grant, Request, read
from control.client.api import Api, segment
from control.client.config import Login
from control.client.errors import AnsweredError, ClientError, UnreachableError

Handler = Callable[[httpx2.Request], httpx2.Response]
REQUEST = {"id": "req_1", "person": "dba1", "target": "orders", "profile": "dba", "state": "pending"}
PENDING = read(Request, REQUEST)


def api(handler: Handler) -> Api:
    """The API as `handler` answers it."""
    return Api(Login(url="https://curfew.example/base", api_key="cfk_a_b"), transport=httpx2.MockTransport(handler))


def failing(error: Exception, cause: Exception | None = None) -> Api:
    """An API that cannot be reached."""

    def handler(_: httpx2.Request) -> httpx2.Response:
        raise error from cause

    return api(handler)


def test_every_request_carries_the_key_to_the_right_place() -> None:
    """The base address is kept, empty parameters are left out, a body is JSON."""
    seen: list[httpx2.Request] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json={"items": [], "next": None})

    with api(handler) as one:
        one.page("/v1/grants", state="active", person=None)
        one.post("/v1/requests", {"target": "orders"})
    assert str(seen[0].url) == "https://curfew.example/base/v1/grants?state=active&limit=100"
    assert seen[0].headers["authorization"] == "Bearer cfk_a_b"
    assert json.loads(seen[1].content) == {"target": "orders"}


def test_a_list_is_followed_to_the_limit() -> None:
    """Page by page along the cursor, and the rest is known to be there."""

    def handler(request: httpx2.Request) -> httpx2.Response:
        after = int(request.url.params.get("after", "0"))
        size = min(3, int(request.url.params["limit"]))
        return httpx2.Response(200, json={"items": list(range(after, after + size)), "next": str(after + size)})

    page = api(handler).page("/v1/grants", limit=7)
    assert page.items == [0, 1, 2, 3, 4, 5, 6]
    assert page.next == "7"


def test_a_list_that_never_ends_does_not_hold_us() -> None:
    """A cursor that stands still, or pages without items, end the list."""
    assert api(lambda _: httpx2.Response(200, json={"items": [1], "next": "x"})).page("/v1/x", limit=50).items == [1, 1]
    cursors = itertools.count()
    empty = api(lambda _: httpx2.Response(200, json={"items": [], "next": str(next(cursors))})).page("/v1/x")
    assert empty.items == []
    assert next(cursors) == 1


def test_lines_come_byte_for_byte() -> None:
    """Only a newline ends a line, wherever the network cuts."""
    body = '{"sql":"a\u2028b\x85c"}\n\n{"x":2}\n{"y":'.encode() + b"3}"

    def handler(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=(body[i : i + 1] for i in range(len(body))))

    assert list(api(handler).lines("/v1/x")) == ['{"sql":"a\u2028b\x85c"}'.encode(), b'{"x":2}', b'{"y":3}']


def test_a_redirect_is_not_followed() -> None:
    """The key would go along."""
    with pytest.raises(AnsweredError, match="HTTP status 302"):
        api(lambda _: httpx2.Response(302, headers={"location": "https://evil.example"})).get("/v1/me")


def test_a_page_of_something_else_is_recognised() -> None:
    """HTML with status 200 is no answer of ours."""
    with pytest.raises(ClientError, match="not as a Curfew control service"):
        api(lambda _: httpx2.Response(200, html="<html>")).get("/v1/me")


def test_a_refused_stream_tells_why() -> None:
    """The problem's details, for streams too."""
    with pytest.raises(AnsweredError, match="Not allowed"):
        list(api(lambda _: httpx2.Response(403, json={"title": "Not allowed"})).lines("/v1/x"))


@pytest.mark.parametrize(
    ("error", "cause", "kind", "text"),
    [
        (httpx2.ConnectError("x"), ConnectionRefusedError(111, "refused"), UnreachableError, "nothing answers at"),
        (httpx2.ConnectTimeout("x"), None, UnreachableError, "did not answer in time"),
        (httpx2.ReadError("x"), None, UnreachableError, "connection to curfew.example failed"),
        (httpx2.ConnectError("x"), ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]"), ClientError, "does not speak TLS"),
    ],
)
def test_failures_of_the_network_are_told_in_words(
    error: Exception, cause: Exception | None, kind: type[ClientError], text: str
) -> None:
    """What to look at, and never a traceback; what trying again cannot mend is no UnreachableError."""
    with pytest.raises(ClientError, match=text) as caught:
        failing(error, cause).get("/v1/me")
    assert type(caught.value) is kind
    assert caught.value.hint


def test_an_answer_of_another_version_is_told() -> None:
    """Which member does not fit."""
    with pytest.raises(ClientError, match="not what this version"):
        api(lambda _: httpx2.Response(200, json={"items": 5})).page("/v1/grants")


def test_no_id_leaves_its_segment() -> None:
    """An id is a name, never a path."""
    assert segment("../../keys?x#y") == "..%2F..%2Fkeys%3Fx%23y"
    assert segment("") == "-"


def listing(*ids: str) -> Api:
    """An API that knows these grants."""

    def handler(request: httpx2.Request) -> httpx2.Response:
        last = request.url.path.rpartition("/")[2]
        if last == "grants":
            return httpx2.Response(200, json={"items": [{"id": i} for i in ids], "next": None})
        return httpx2.Response(200, json={"id": last}) if last in ids else httpx2.Response(404, json={"title": "No"})

    return api(handler)


@pytest.mark.parametrize("text", ["grt_abc1", "grt_ab", "ab", "abc1"])
def test_an_id_may_be_abbreviated(text: str) -> None:
    """By its beginning, with the kind's prefix or without."""
    assert naming.find(listing("grt_abc1", "grt_xyz"), "grants", text) == {"id": "grt_abc1"}


def test_an_id_in_full_is_never_an_abbreviation() -> None:
    """Even where another one begins with it."""
    assert naming.find(listing("grt_a", "grt_ab"), "grants", "grt_a") == {"id": "grt_a"}


def test_an_abbreviation_has_to_mean_one() -> None:
    """Otherwise it names the candidates."""
    with pytest.raises(ClientError, match="beginning of 2 ids: grt_ab1, grt_ab2"):
        naming.find(listing("grt_ab1", "grt_ab2"), "grants", "ab")
    with pytest.raises(AnsweredError, match="No"):
        naming.find(listing("grt_ab1"), "grants", "zz")


class Clock:
    """A clock that only `sleep` and the answers move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        """The time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Pass it."""
        self.slept.append(seconds)
        self.now += seconds


def test_waiting_goes_on_until_it_is_decided() -> None:
    """Each answer that is still pending leads to the next question; a long one without a pause between."""
    clock, states = Clock(), iter(["pending", "pending", "approved"])

    def handler(request: httpx2.Request) -> httpx2.Response:
        assert request.url.params["wait_s"] == "30"
        clock.now += 30
        return httpx2.Response(200, json=REQUEST | {"state": next(states), "grant": "grt_1"})

    done = waiting.until_decided(api(handler), PENDING, sleep=clock.sleep, clock=clock)
    assert waiting.approved(done) == "grt_1"
    assert clock.slept == []


def test_waiting_outlasts_a_hiccup_but_not_an_outage() -> None:
    """A service that comes back in time is asked again; one that stays away ends the wait."""
    clock, left = Clock(), [3]

    def handler(_: httpx2.Request) -> httpx2.Response:
        left[0] -= 1
        if left[0] >= 0:
            return httpx2.Response(503, json={})
        return httpx2.Response(200, json=REQUEST | {"state": "denied"})

    assert waiting.until_decided(api(handler), PENDING, sleep=clock.sleep, clock=clock).state == "denied"
    left[0] = 1_000
    with pytest.raises(AnsweredError):
        waiting.until_decided(api(handler), PENDING, sleep=clock.sleep, clock=clock)
    assert clock.now < 200


def test_waiting_ends_at_a_refusal() -> None:
    """A key that was taken away meanwhile will not come back."""
    with pytest.raises(AnsweredError):
        waiting.until_decided(api(lambda _: httpx2.Response(401, json={})), PENDING, sleep=lambda _: None)


def test_what_was_not_approved_says_who_and_why() -> None:
    """The approver's comment reaches the person."""
    denied = read(Request, REQUEST | {"state": "denied", "decided_by": "carol", "comment": "not today"})
    with pytest.raises(ClientError, match="req_1 was not approved: denied by carol: not today"):
        waiting.approved(denied)


def test_unknown_members_of_an_answer_do_no_harm() -> None:
    """A newer service may say more."""
    answer = {"id": "g", "person": "p", "target": "t", "profile": "x", "state": "active", "colour": "blue"}
    assert read(Grant, answer).databases is None
