"""Bytes from the service to a file or a pipe."""

import io
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from control.client import private, rendering
from control.client.answers import Session
from control.client.api import Api
from control.client.errors import ClientError, UnreachableError
from control.client.rendering import Chosen, Form, Progress
from tests.unit.control.client.test_api import api

SESSIONS = [Session(id="a"), Session(id="b/c")]


class Cut(httpx2.SyncByteStream):
    """An answer that ends in the midst."""

    def __iter__(self) -> Iterator[bytes]:
        yield b'{"session":'
        raise httpx2.RemoteProtocolError("peer closed connection without sending complete message body")


def test_each_session_is_written_in_turn() -> None:
    """As the service has it, whatever its id is made of."""
    asked: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        return httpx2.Response(200, content=f"line {len(asked)}\n")

    file = io.BytesIO()
    with api(handler) as one:
        progress = rendering.write(one, SESSIONS, Form.OCSF, file)
    assert file.getvalue() == b"line 1\nline 2\n"
    assert (progress.done, progress.size) == (2, 14)
    assert [url.partition("/v1/")[2] for url in asked] == [
        "sessions/a/export?format=ocsf",
        "sessions/b%2Fc/export?format=ocsf",
    ]


def test_half_an_answer_is_no_file(tmp_path: Path) -> None:
    """A connection that breaks, or a service that dies, leaves nothing that looks like an export."""
    with (
        api(lambda _: httpx2.Response(200, stream=Cut())) as one,
        pytest.raises(UnreachableError, match="failed: peer closed"),
    ):
        _save(one, tmp_path / "export")
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_is_no_file(tmp_path: Path) -> None:
    """It is said instead."""
    with (
        api(lambda _: httpx2.Response(403, json={"title": "Forbidden", "detail": "no"})) as one,
        pytest.raises(ClientError, match="Forbidden: no"),
    ):
        _save(one, tmp_path / "export")
    assert list(tmp_path.iterdir()) == []


def _save(one: Api, path: Path) -> None:
    with private.new(path) as file:
        rendering.write(one, SESSIONS, Form.JSONL, file)


def test_all_are_all_chains_oldest_first() -> None:
    """A list without a state leaves out refused connections and what one proxy ended for another."""
    states = {None: [{"id": "new", "started_at": "3"}], "refused": [{"id": "no", "started_at": "1"}]}
    states["reaped"] = [{"id": "reaped", "started_at": "2"}]

    def handler(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"items": states[request.url.params.get("state")], "next": None})

    with api(handler) as one:
        found = rendering.find(one, Chosen(names=[], everything=True, since=None))
    assert [session.id for session in found] == ["no", "reaped", "new"]


def test_what_takes_long_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr, now and then."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = Progress(sessions=3)
    for second in (1.0, 5.0, 6.0, 11.0):
        now[0] = second
        progress.add(1_000_000)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "session 1 of 3, 2.0 MB so far\nsession 1 of 3, 4.0 MB so far\n"
