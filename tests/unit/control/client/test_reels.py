"""A timeline's lines: read, cut, and written as JSON."""

import json

import pytest

from control.client import reels
from control.client.errors import ClientError
from control.client.playback import Item

ITEMS = [
    Item(kind="request", offset_s=-60.0),
    Item(kind="statement", statement=1, offset_s=1.0, duration_s=9.0),
    Item(kind="notice", offset_s=10.9, sqlstate="01000"),
    Item(kind="statement", statement=2, offset_s=11.0, sqlstate="42P01"),
    Item(kind="statement", statement=3, offset_s=20.0, sqlstate="22012"),
    Item(kind="end", offset_s=30.0),
]


@pytest.mark.parametrize(
    ("place", "first"),
    [
        ("0:10", 1),  # something runs then
        ("10.95", 3),
        ("30s", 5),
        ("statement:3", 4),
        ("error", 3),
        ("error:1", 3),
        ("error:2", 4),
    ],
)
def test_places(place: str, first: int) -> None:
    """From there on everything."""
    assert list(reels.behind(reels.place(place), ITEMS)) == ITEMS[first:]


@pytest.mark.parametrize("place", ["error:3", "statement:4", "31"])
def test_places_that_are_not_there(place: str) -> None:
    """Nothing shown would look like nothing done."""
    with pytest.raises(ClientError, match="no such place"):
        list(reels.behind(reels.place(place), ITEMS))


@pytest.mark.parametrize("place", ["", "statement", "statement:", "statement:x", "error:-1", "errors", "1:"])
def test_what_is_no_place(place: str) -> None:
    """It is refused before anything is fetched."""
    with pytest.raises(ValueError, match="no "):
        reels.place(place)


@pytest.mark.parametrize("items", [[], [{"kind": "start", "text": "a\u202e"}, {"kind": "end", "slots": []}]])
def test_a_timeline_as_json(items: list[dict[str, object]], capsys: pytest.CaptureFixture[str]) -> None:
    """What the service has, item by item, in ASCII."""
    reels.dump({"id": "s", "person": None}, [json.dumps(item).encode() for item in items])
    whole = {"session": {"id": "s", "person": None}, "items": items}
    said = capsys.readouterr().out
    assert said == json.dumps(whole, indent=2) + "\n"


def test_an_answer_that_is_no_timeline() -> None:
    """Words, and no traceback."""
    for lines in ([], [b"{}"], [b"\xff"], [b'{"session":{"id":1}}']):
        with pytest.raises(ClientError, match="understands"):
            reels.head(iter(lines))
    with pytest.raises(ClientError, match="understands"):
        list(reels.items([b'{"kind":1}']))
