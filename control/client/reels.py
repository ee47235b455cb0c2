"""A session's timeline on its way from the service: fetched, kept on disk where it is long, cut to what is wanted.

A timeline is a line for the session and one for each item (NDJSON). A replay is fetched whole before it is shown: who
shows it may stand still for as long as they like, and the service waits for nobody.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import msgspec

from control.client import playback, screen
from control.client.answers import Session
from control.client.api import Api, segment
from control.client.errors import ClientError
from control.client.playback import Item
from control.client.times import parse_offset

IN_MEMORY = 8 << 20


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    session: dict[str, Any]


@contextmanager
def fetched(api: Api, session_id: str) -> Iterator[Iterator[bytes]]:
    """The lines of a session's timeline, all that there is now. What does not fit into memory is in an unnamed file."""
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as spool:
        try:
            for line in api.lines(_path(session_id)):
                spool.write(line + b"\n")
            spool.seek(0)
        except OSError as error:
            raise ClientError(f"the timeline finds no room in {tempfile.gettempdir()}: {error.strerror}") from error
        yield _lines(spool)


def _path(session_id: str) -> str:
    return f"/v1/sessions/{segment(session_id)}/timeline"


def _lines(spool: IO[bytes]) -> Iterator[bytes]:
    while line := spool.readline():
        yield line[:-1]


def head(lines: Iterator[bytes]) -> tuple[dict[str, Any], Session]:
    """The session, which the first line has: as it was sent, and read."""
    sent = _decode(next(lines, b"{}"), _Head).session
    try:
        return sent, msgspec.convert(sent, Session)
    except msgspec.ValidationError as error:
        raise _not_understood(error) from error


def items(lines: Iterable[bytes]) -> Iterator[Item]:
    """What happened in it."""
    for line in lines:
        yield _decode(line, Item)


def _decode(line: bytes, kind: type[Any]) -> Any:  # noqa: ANN401 `kind`
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _not_understood(error) from error


def _not_understood(error: Exception) -> ClientError:
    return ClientError(
        f"the service's answer is not what this version of curfew understands: {error}",
        hint="are both of one version?",
    )


# Places in a session.


def place(text: str) -> Callable[[Item], bool]:
    """What tells whether an item is at a place: `error`, `error:2`, `statement:7`, or a position in time."""
    word, _, number = text.partition(":")
    if word in ("error", "statement"):
        if not (number or "1").isdecimal() or (word == "statement" and not number):
            raise ValueError(f"{text!r} is no place; write for instance error:2 or statement:7")
        wanted = int(number or 1)
        return (lambda item: item.statement == wanted) if word == "statement" else _Errors(wanted)
    at_s = parse_offset(text)
    return lambda item: item.offset_s + (item.duration_s or 0.0) >= at_s


class _Errors:
    """Whether as many errors have been seen as are wanted."""

    def __init__(self, wanted: int) -> None:
        self._left = wanted

    def __call__(self, item: Item) -> bool:
        self._left -= playback.failed(item)
        return self._left <= 0


def behind(place: Callable[[Item], bool], items: Iterable[Item]) -> Iterator[Item]:
    """The items from a place on. Raises ClientError where there is no such place."""
    found = False
    for item in items:
        found = found or place(item)
        if found:
            yield item
    if not found:
        raise ClientError("there is no such place in the session")


# As JSON.


def dump(session: dict[str, Any], lines: Iterable[bytes]) -> None:
    """The timeline as one JSON object, item by item; in ASCII, as `screen.dump` has it."""
    screen.raw(f'{{\n  "session": {_indented(session, 2)},\n  "items": [', end="")
    mark = ""
    for line in lines:
        screen.raw(f"{mark}\n    {_indented(_decode(line, dict), 4)}", end="")
        mark = ","
    screen.raw("\n  ]\n}" if mark else "]\n}")


def dump_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The same lines, each shown as JSON in ASCII as it passes."""
    for line in lines:
        screen.raw(json.dumps(_decode(line, dict)))
        yield line


def _indented(value: object, columns: int) -> str:
    return json.dumps(value, indent=2).replace("\n", "\n" + " " * columns)
