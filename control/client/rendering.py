"""Sessions in a format of others, from the service to a file or a pipe: nothing is rendered here.

A document (html, asciicast) is of one session; lines (jsonl, ocsf, ecs, records) may be of many, oldest first, in one
stream. All but the records are harmless on a terminal.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import IO

import typer

from control.client import naming, private, screen
from control.client.answers import Session, read
from control.client.api import Api, from_environment, segment
from control.client.errors import ClientError
from control.client.times import parse_time
from control.client.wording import count

EVERYTHING = 100_000_000
UNLISTED = (None, "refused", "reaped")
"""States to ask for: without one, what is no session is left out."""
PROGRESS_S = 5.0
STDOUT = "-"
FAILED = 1
MEGABYTE = 1_000_000


class Form(StrEnum):
    """A format."""

    HTML = "html"
    JSONL = "jsonl"
    ASCIICAST = "asciicast"
    OCSF = "ocsf"
    ECS = "ecs"
    RECORDS = "records"


DOCUMENTS = (Form.HTML, Form.ASCIICAST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which sessions a person wants."""

    names: list[str]
    everything: bool
    since: datetime | None

    def __post_init__(self) -> None:
        ways = bool(self.names) + self.everything + (self.since is not None)
        if ways != 1:
            raise typer.BadParameter("name sessions, or give --all or --since")


class Progress:
    """Says now and then on stderr how far it is."""

    def __init__(self, sessions: int) -> None:
        self._sessions = sessions
        self._said = time.monotonic()
        self.done = 0
        self.size = 0

    def add(self, size: int) -> None:
        """So many bytes more."""
        self.size += size
        if time.monotonic() - self._said >= PROGRESS_S:
            self._said = time.monotonic()
            which = f"session {self.done + 1} of {self._sessions}, " if self._sessions > 1 else ""
            screen.note(f"{which}{self.size / MEGABYTE:.1f} MB so far")


def export(chosen: Chosen, wanted: Form, output: str | None) -> None:
    """Have the sessions written, and say how many went where."""
    if wanted in DOCUMENTS and len(chosen.names) != 1:
        raise typer.BadParameter(f"a file of {wanted} is of one session: name it")
    path = None if output in (None, STDOUT) else Path(str(output))
    if path is None and wanted is Form.RECORDS and sys.stdout.isatty():
        raise ClientError(
            "records are as they were made, and could act on this terminal",
            hint="name a file with --output, or pipe it; `curfew replay` shows a session here",
        )
    with from_environment() as api:
        found = find(api, chosen)
        with _stdout() if path is None else private.new(path) as file:
            progress = write(api, found, wanted, file)
    if path is not None:
        screen.say(f"exported {count(progress.done, 'session')} as {wanted} to {path}")


def find(api: Api, chosen: Chosen) -> list[Session]:
    """The sessions, oldest first where they were not named. All are all chains: refused connections, and reapings."""
    if chosen.names:
        return [read(Session, naming.find(api, "sessions", one)) for one in chosen.names]
    pages = [api.page("/v1/sessions", limit=EVERYTHING, state=state) for state in UNLISTED]
    found = [one for page in pages for one in read(list[Session], page.items)]
    found.sort(key=lambda one: one.started_at or "")
    return [one for one in found if chosen.since is None or _running_at(one, chosen.since)]


def write(api: Api, found: list[Session], wanted: Form, file: IO[bytes]) -> Progress:
    """Write each session's lines or document, as the service makes them."""
    progress = Progress(len(found))
    for one in found:
        for piece in api.pieces(f"/v1/sessions/{segment(one.id)}/export", format=wanted):
            file.write(piece)
            progress.add(len(piece))
        progress.done += 1
    return progress


def _running_at(one: Session, since: datetime) -> bool:
    """Whether the session was there at `since` or came later."""
    return one.ended_at is None or parse_time(one.ended_at) >= since


@contextmanager
def _stdout() -> Iterator[IO[bytes]]:
    """Standard output; whoever reads it may stop reading, as `head` does."""
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # Python flushes stdout once more at exit (its documentation of SIGPIPE): there must be somewhere to write to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(FAILED) from None
    except OSError as error:
        raise ClientError(f"cannot write: {error.strerror or error}") from error
