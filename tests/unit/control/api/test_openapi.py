"""The API's own description."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.control.desk import Desk

README = Path(__file__).parents[4] / "control" / "README.md"


@pytest.fixture
async def description(desk: Desk) -> dict[str, Any]:
    """The OpenAPI document."""
    document: dict[str, Any] = await desk.ok(None, "GET", "/openapi.json")
    return document


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Every operation, with its method and path."""
    return [(method, path, one) for path, item in document["paths"].items() for method, one in item.items()]


async def test_operations_are_tidy(description: dict[str, Any]) -> None:
    """Each has a name of its own, a sentence, a tag and its errors as problems."""
    found = operations(description)
    names = [one["operationId"] for _, _, one in found]
    assert len(set(names)) == len(names) > 25
    for _, _, one in found:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", one["operationId"])
        assert one["description"].endswith(".")
        assert one["tags"]
        for status in ("default", "422"):
            assert list(one["responses"][status]["content"]) == ["application/problem+json"]


async def test_what_needs_a_key_says_so(description: dict[str, Any]) -> None:
    """All but a few."""
    public = {path for _, path, one in operations(description) if "security" not in one}
    keys = {"/v1/jwks", "/.well-known/jwks.json", "/v1/log/key", "/v1/log/checkpoint"}
    assert public == keys | {"/v1/proxies/join", "/livez", "/readyz", "/metrics"}


async def test_every_operation_is_in_the_readme(description: dict[str, Any]) -> None:
    """Documentation that cannot rot."""
    text = README.read_text()
    for method, path, _ in operations(description):
        assert re.search(rf"{method.upper()} {re.escape(path)}(?![\w/])", text), (
            f"{method.upper()} {path} is not in {README}"
        )
