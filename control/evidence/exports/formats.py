"""The formats that a session can be had in: who writes each, what it is called, how it may be joined. Pure."""

import enum
from dataclasses import dataclass
from typing import Any, Final, Protocol

from control.domain.sessions import Session
from control.evidence.exports.asciicast import Asciicast
from control.evidence.exports.context import Context
from control.evidence.exports.ecs import Ecs
from control.evidence.exports.html import Html
from control.evidence.exports.jsonl import JsonLines
from control.evidence.exports.ocsf import Ocsf
from control.evidence.timeline import Item


class Exporter(Protocol):
    """Writes one session: `begin`, then `take` each item of its timeline in order, then `finish`."""

    def begin(self) -> bytes:
        """What comes first."""

    def take(self, item: Item) -> bytes:
        """What an item makes, which may be nothing yet."""

    def finish(self) -> bytes:
        """The rest."""


class Format(enum.StrEnum):
    """A format's name."""

    RECORDS = "records"
    """The records as the proxy wrote them, byte for byte: what `curfew verify` takes."""
    JSONL = "jsonl"
    HTML = "html"
    ASCIICAST = "asciicast"
    OCSF = "ocsf"
    ECS = "ecs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a format's file is."""

    media_type: str
    suffix: str


NDJSON: Final = "application/x-ndjson"
KINDS: Final = {
    Format.RECORDS: Kind(media_type=NDJSON, suffix="ndjson"),
    Format.JSONL: Kind(media_type=NDJSON, suffix="jsonl"),
    Format.HTML: Kind(media_type="text/html; charset=utf-8", suffix="html"),
    Format.ASCIICAST: Kind(media_type="application/x-asciicast", suffix="cast"),
    Format.OCSF: Kind(media_type=NDJSON, suffix="ocsf.jsonl"),
    Format.ECS: Kind(media_type=NDJSON, suffix="ecs.jsonl"),
}


def exporter(wanted: Format, session: Session, *, version: str, summary: dict[str, Any]) -> Exporter:
    """Who writes this session in `wanted`, which is not `records`: they are not written anew.

    `summary` is the session as the API shows it, `version` Curfew's.
    """
    context = Context(session=session, version=version)
    match wanted:
        case Format.JSONL:
            return JsonLines(context, summary)
        case Format.HTML:
            return Html(context)
        case Format.ASCIICAST:
            return Asciicast(context)
        case Format.OCSF:
            return Ocsf(context)
        case Format.ECS:
            return Ecs(context)
        case Format.RECORDS:
            raise ValueError("records are passed on as they are")
