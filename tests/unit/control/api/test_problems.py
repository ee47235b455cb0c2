"""Every error is a problem, and tells nothing that it should not."""

import json
from collections.abc import AsyncIterator

import httpx2
import pytest

from control.api.envelope import BODY_BYTES, HEADERS
from tests.unit.control.desk import Desk


def problem(response: httpx2.Response, status: int) -> dict[str, object]:
    """The problem in a response, which has its form."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, object] = response.json()
    assert body.keys() >= {"type", "title", "status", "detail"}
    assert body["status"] == status
    assert str(body["type"]).startswith("urn:curfew:problem:")
    return body


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/me/", 404),
        ("GET", "/docs", 404),
        ("DELETE", "/v1/me", 405),
        ("PUT", "/v1/requests", 405),
        ("GET", "/v1/records", 405),
        ("POST", "/v1/directives", 405),
        ("GET", "/v1/requests/%00", 404),
        ("GET", "/v1/requests/%ff%fe", 404),
        ("GET", "/v1/sessions/..%2f..%2fetc", 404),
        ("GET", "/v1/grants?state=odd", 422),
        ("GET", "/v1/requests?limit=many", 422),
        ("GET", "/v1/requests?person=%00", 200),
    ],
)
async def test_errors_of_the_framework(desk: Desk, method: str, path: str, status: int) -> None:
    """Unknown paths, methods and values."""
    response = await desk.call("ada", method, path)
    if status == 200:
        assert response.status_code == 200
    else:
        problem(response, status)


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 422),
        (b"\xff\xfe", "application/json", 422),
        (b"{}", "text/plain", 422),
        (b"", "application/json", 422),
        (b'{"target": NaN}', "application/json", 422),
        (b"[" * 100_000, "application/json", 413),
        (b"[" * 60_000, "application/json", 400),
        (b'{"a":' * 10_000, "application/json", 400),
        (b"x" * (BODY_BYTES + 1), "application/json", 413),
        (b"1" * 10_000, "application/json", 400),
    ],
)
async def test_bodies_that_are_none(desk: Desk, content: bytes, kind: str, status: int) -> None:
    """Half a body, nested without an end, too much of it, too long a number: 400 is where FastAPI gives up."""
    headers = {"authorization": f"Bearer {desk.api_keys['ada']}", "content-type": kind}
    problem(await desk.http.post("/v1/requests", content=content, headers=headers), status)
    problem(await desk.http.post("/v1/proxies/join", content=content), 413 if status == 413 else 422)


async def test_a_body_of_unknown_length_is_counted(desk: Desk) -> None:
    """It comes in chunks, and ends at the limit."""
    sent = 0

    async def dribble() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 10 * BODY_BYTES:
            sent += 8_192
            yield b"x" * 8_192

    headers = {"authorization": f"Bearer {desk.api_keys['ada']}", "content-type": "application/json"}
    problem(await desk.http.post("/v1/requests", content=dribble(), headers=headers), 413)


async def test_a_body_that_says_that_it_is_too_large_is_not_read(desk: Desk) -> None:
    """Not a byte of it."""
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        sent += 1
        yield b"x" * (BODY_BYTES + 1)

    headers = {"authorization": f"Bearer {desk.api_keys['ada']}", "content-length": str(BODY_BYTES + 1)}
    problem(await desk.http.post("/v1/requests", content=body(), headers=headers), 413)
    assert sent == 0


async def test_what_is_refused_is_not_repeated(desk: Desk) -> None:
    """The input may hold a secret."""
    body = problem(await desk.call("root", "POST", "/v1/people", {"name": 5, "hush-key": "hush-value"}), 422)
    assert "hush-value" not in json.dumps(body)
    assert "hush-key: Extra inputs are not permitted" in str(body["detail"])
    problem(await desk.call("root", "POST", "/v1/people", {"name": "x", "roles": [], "\ud800": 1}), 422)


async def test_a_fault_tells_no_internals(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The answer is always the same; the log has the traceback, and neither has the key."""

    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("internal detail")

    monkeypatch.setattr("control.operations.requests.page", broken)
    body = problem(await desk.call("ada", "GET", "/v1/requests"), 500)
    assert "internal detail" not in json.dumps(body)
    logged = capsys.readouterr().out
    assert "internal detail" in logged
    assert desk.api_keys["ada"] not in logged


async def test_every_answer_has_the_headers(desk: Desk) -> None:
    """Tokens and errors alike: nothing on the way may keep them."""
    grant = await desk.grant()
    answers = [
        await desk.call("ada", "POST", f"/v1/grants/{grant}/token"),
        await desk.call("ada", "GET", "/v1/nothing"),
        await desk.call(None, "GET", "/v1/me"),
        await desk.call(None, "GET", "/livez"),
        await desk.call("ada", "POST", "/v1/requests", "x" * BODY_BYTES),
    ]
    for answer in answers:
        assert HEADERS.items() <= dict(answer.headers).items()


async def test_no_secret_is_ever_logged(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """Keys, tokens, join tokens, proofs: the whole way through."""
    edge = await desk.edge()
    token = (await desk.ok("ada", "POST", f"/v1/grants/{await desk.grant()}/token"))["token"]
    join_token = (await desk.ok("root", "POST", "/v1/proxies/join-tokens"))["join_token"]
    added = await desk.ok("root", "POST", "/v1/people", {"name": "dan", "roles": []})
    bad = f"cfk_{'q' * 12}_{'s' * 43}"
    await desk.http.get("/v1/me?hush=query", headers={"authorization": f"Bearer {bad}"})
    proof = edge.signed("POST", "/v1/records", b"x")
    await desk.http.post("/v1/records", content=b"y", headers=proof)
    logged = capsys.readouterr().out
    assert "token issued" in logged
    secrets = [token, join_token, added["api_key"], bad, "q" * 12, "hush", proof["authorization"].split()[1]]
    for secret in [*secrets, *desk.api_keys.values()]:
        assert secret not in logged


async def test_metrics_name_routes_and_not_paths(desk: Desk) -> None:
    """Ids and methods that somebody made up do not make metrics."""
    await desk.call("ada", "GET", "/v1/grants/secret-id")
    await desk.http.request("BREW", "/v1/grants/x")
    await desk.call("ada", "GET", "/somewhere/else")
    text = (await desk.call(None, "GET", "/metrics")).text
    assert 'http_requests_total{method="GET",route="/v1/grants/{grant_id}",status="404"} 1.0' in text
    assert 'method="other"' in text
    assert 'route="none"' in text
    assert "secret-id" not in text
    assert "BREW" not in text


async def test_it_is_alive_and_ready(desk: Desk) -> None:
    """Until it stops."""
    for path in ("/livez", "/readyz"):
        assert (await desk.call(None, "GET", path)).text == "ok\n"
    desk.services.stop()
    problem(await desk.call(None, "GET", "/readyz"), 503)
    assert (await desk.call(None, "GET", "/livez")).status_code == 200


async def test_without_its_key_it_is_not_ready(desk: Desk) -> None:
    """Nor without its database."""
    for file in desk.services.settings.keys.iterdir():
        file.unlink()
    desk.services.ring._loaded.clear()
    assert problem(await desk.call(None, "GET", "/readyz"), 503)["detail"] == "the signing key cannot be used"


async def test_without_its_database_it_is_not_ready(desk: Desk) -> None:
    """A table is gone, as in a file that was replaced."""
    async with desk.services.store.write() as tx:
        await tx.connection.exec_driver_sql("DROP TABLE signing_keys")
    assert problem(await desk.call(None, "GET", "/readyz"), 503)["detail"] == "the database cannot be written to"


async def test_readiness_is_looked_at_once_a_second(desk: Desk) -> None:
    """Anybody may ask, and looking writes."""
    assert (await desk.call(None, "GET", "/readyz")).status_code == 200
    async with desk.services.store.write() as tx:
        await tx.connection.exec_driver_sql("DROP TABLE signing_keys")
    assert (await desk.call(None, "GET", "/readyz")).status_code == 200
