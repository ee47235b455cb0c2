"""What the service says goes to the person in words, whatever its shape."""

import json

import pytest

from control.client.errors import from_problem


def test_a_problem_is_title_detail_and_what_to_do() -> None:
    """RFC 9457's members, and a hint by status."""
    error = from_problem(
        403, json.dumps({"title": "Not allowed", "detail": "your own request", "status": 403}).encode()
    )
    assert str(error) == "Not allowed: your own request"
    assert "whoami" in error.hint


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"x"', b"\xff\xfe", b'{"title": 5}', b"null"])
def test_anything_else_still_gives_its_status(body: bytes) -> None:
    """A proxy in between answers with pages of its own."""
    assert str(from_problem(502, body)) == "the service answered with HTTP status 502"


def test_a_list_of_faults_is_joined() -> None:
    """Validation errors may come as a list."""
    body = json.dumps({"title": "Invalid", "detail": [{"msg": "too long", "loc": ["x"]}, {"msg": "missing"}]}).encode()
    assert str(from_problem(422, body)) == "Invalid: too long; missing"
