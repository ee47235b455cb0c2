"""Sessions as files: who gets them, as what, and that all of it is there."""

import asyncio
import json
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from control.evidence.exports.formats import KINDS, Format
from control.evidence.timeline import Item
from control.operations import exports
from proxy.contract.record import Chain
from tests.unit.control.desk import Desk, Edge, statement


@pytest.fixture(autouse=True)
async def session(edge: Edge) -> list[bytes]:
    """Ada's, with a name that no file should have."""
    lines = edge.session('a";..', grant="grt_a", statements=3)
    assert (await edge.ship(*lines)).is_success
    return lines


AT = "/v1/sessions/a%22%3B../export"


async def test_who_gets_a_session(desk: Desk) -> None:
    """Whoever may read its records, in every format."""
    allowed = {"ada": 200, "bob": 404, "carol": 403, "eve": 200, "root": 200, None: 401}
    for form in Format:
        got = {who: (await desk.call(who, "GET", f"{AT}?format={form}")).status_code for who in allowed}
        assert got == allowed


async def test_it_comes_as_a_file(desk: Desk) -> None:
    """With its media type, and a name that is harmless wherever it is saved."""
    for form, kind in KINDS.items():
        headers = (await desk.call("eve", "GET", f"{AT}?format={form}")).headers
        assert headers["content-type"] == kind.media_type
        assert headers["content-disposition"] == f'attachment; filename="curfew-a____.{kind.suffix}"'
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


async def test_records_are_the_very_bytes(desk: Desk, session: list[bytes]) -> None:
    """As `/records` has them."""
    answer = await desk.call("eve", "GET", f"{AT}?format=records")
    assert answer.content == b"".join(line + b"\n" for line in session)


async def test_lines_are_the_timeline_behind_the_summary(desk: Desk) -> None:
    """As the API shows both."""
    told = await desk.ok("eve", "GET", "/v1/sessions/a%22%3B../timeline")
    answer = await desk.call("eve", "GET", f"{AT}?format=jsonl")
    first, *items = [json.loads(line) for line in answer.content.splitlines()]
    assert first == told["session"] | {"session": told["session"]["id"], "kind": "session"}
    assert items == [{"session": told["session"]["id"]} | item for item in told["items"]]


async def test_events_are_a_line_each(desk: Desk) -> None:
    """A start, three statements, an end."""
    for form in (Format.OCSF, Format.ECS):
        answer = await desk.call("eve", "GET", f"{AT}?format={form}")
        assert len([json.loads(line) for line in answer.content.splitlines()]) == 5


async def test_what_is_heavy_is_whole_too(desk: Desk, edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written in a thread, so that nobody else waits."""
    chain = Chain("heavy")
    sql = "SELECT '" + "x" * exports.HEAVY + "'"
    assert (await edge.ship(chain.seal(edge.start()), *(chain.seal(one) for one in statement(1, sql)))).is_success
    threads: list[str] = []

    async def thread(take: Callable[[Item], bytes], item: Item) -> bytes:
        threads.append(item["kind"])
        return take(item)

    monkeypatch.setattr(asyncio, "to_thread", thread)
    answer = await desk.call("eve", "GET", "/v1/sessions/heavy/export?format=ocsf")
    assert json.loads(answer.content.splitlines()[1])["query_info"]["query_string"] == sql
    assert threads == ["statement"]


async def test_a_format_must_be_known(desk: Desk) -> None:
    """And named."""
    for query in ("", "?format=pdf"):
        assert (await desk.call("eve", "GET", f"{AT}{query}")).status_code == 422


async def test_who_took_what_is_in_the_log(desk: Desk) -> None:
    """Beside that the records were read."""
    with capture_logs() as logs:
        await desk.call("eve", "GET", f"{AT}?format=html")
    said = [(one["event"], one["by"], one.get("format")) for one in logs if "by" in one]
    assert said == [("records read", "eve", None), ("session exported", "eve", "html")]
