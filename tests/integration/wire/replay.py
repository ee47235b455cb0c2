"""`python -m tests.integration.wire.replay FILE`: replay recorded sessions, in process, split at every offset.

A program, so that each twin of the compiled modules can have its turn (CURFEW_FRAMER). FILE is what `write` wrote; it
prints a Report. Between the two sides stands all of the relay: legs, framers, tracker, recorder, journal. There are no
sockets, so nothing is left to chance.
"""

import asyncio
import base64
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias, cast

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy.contract.record import Chain
from proxy.journal import Journal
from proxy.leg import Leg
from proxy.recorder import Recorder
from proxy.relay import Relay
from proxy.wire.framing import IMPLEMENTATION
from proxy.wire.tracker import Tracker
from tests.harness.relay import Side
from tests.unit.proxy.journals import stored
from tests.unit.proxy.stand import Transport

Turns: TypeAlias = list[tuple[Side, bytes]]
Chunks: TypeAlias = Iterator[tuple[Side, bytes]]

LIMIT = 1_000_000
WITHOUT = ("at", "duration", "session", "prev", "seq")
"""What of a record is another one each time. (The numbers and the chain are the journal's tests' matter.)"""
WHOLE = "whole"


class Outcome(msgspec.Struct, frozen=True):
    """What one replay gave."""

    upstream: bytes
    told: bytes
    cause: str
    counted: tuple[int, int]
    records: tuple[str, ...] = ()


class Report(msgspec.Struct):
    """What a run gave."""

    implementation: str
    replays: int
    differences: list[str]
    outcomes: dict[str, Outcome]
    """Of each session in one piece: the same for both twins."""


def write(sessions: Mapping[str, Turns], path: Path) -> None:
    """The file for a run."""
    coded = {
        name: [(side, base64.b64encode(data).decode()) for side, data in turns] for name, turns in sessions.items()
    }
    path.write_bytes(msgspec.json.encode(coded))


def run(sessions: Mapping[str, Turns], journal: Journal) -> Report:
    """Replay each session whole, split at each offset of each side, and byte by byte."""
    played: dict[str, Outcome] = {}
    for number, (name, turns) in enumerate(sessions.items()):
        played[f"{number} {WHOLE}"] = play(iter(turns), journal, f"{number} {WHOLE}")
        for label, chunks in ways(turns):
            played[f"{number} {label}"] = play(chunks, journal, f"{number} {label}")
        assert len(played) > len(turns), name
    journal.flush()
    recorded = records(journal.directory)
    for session, outcome in played.items():
        played[session] = msgspec.structs.replace(outcome, records=tuple(recorded.get(session, ())))
    names = list(sessions)
    wrong = [f"{names[_number(session)]}, {session}: {what}" for session in played if (what := _what(played, session))]
    return Report(
        implementation=IMPLEMENTATION,
        replays=len(played),
        differences=wrong,
        outcomes={name: played[f"{number} {WHOLE}"] for number, name in enumerate(names)},
    )


def ways(turns: Turns) -> Iterator[tuple[str, Chunks]]:
    """Every way to cut a session, by a name."""
    for side in ("client", "server"):
        length = sum(len(data) for of, data in turns if of == side)
        for offset in range(1, length):
            yield f"{side} at {offset}", split(turns, side, offset)
    yield "byte by byte", ((side, data[at : at + 1]) for side, data in turns for at in range(len(data)))


def split(turns: Turns, side: str, offset: int) -> Chunks:
    """The chunks, with one side's stream cut at `offset`."""
    for of, data in turns:
        if of == side and 0 < offset < len(data):
            yield of, data[:offset]
            yield of, data[offset:]
        else:
            yield of, data
        offset -= len(data) if of == side else 0


def play(chunks: Chunks, journal: Journal, session: str) -> Outcome:
    """Play one session through a relay of its own."""
    client, server = Leg(), Leg()
    client_side, server_side = Transport(), Transport()
    client.connection_made(cast("asyncio.BaseTransport", client_side))
    server.connection_made(cast("asyncio.BaseTransport", server_side))
    recorder = Recorder(journal, _KEY, Chain(session))
    relay = Relay(client, server, Tracker(), recorder, limit=LIMIT)
    relay.start()
    for side, data in chunks:
        (client if side == "client" else server).data_received(data)
    server.eof_received()
    recorder.after(relay.tracker.close(0, relay.copied))
    return Outcome(
        upstream=server_side.written,
        told=client_side.written,
        cause=repr(relay.ended.result()),
        counted=(relay.bytes_in, relay.bytes_out),
    )


def records(directory: Path) -> dict[str, list[str]]:
    """The journal's records by session, without what differs from time to time."""
    found: dict[str, list[str]] = {}
    for line in stored(directory):
        found.setdefault(msgspec.json.decode(line)["session"], []).append(lasting(line))
    return found


def lasting(line: bytes) -> str:
    """A record without what differs from time to time."""
    record: dict[str, Any] = msgspec.json.decode(line)
    return msgspec.json.encode({name: value for name, value in record.items() if name not in WITHOUT}).decode()


def _number(session: str) -> int:
    return int(session.partition(" ")[0])


def _what(played: dict[str, Outcome], session: str) -> str:
    """Where a session differs from the same in one piece; empty where it does not."""
    one, other = played[session], played[f"{_number(session)} {WHOLE}"]
    one = msgspec.structs.replace(one, records=without_early_binds(one.records, other.records))
    pairs = ((name, getattr(one, name), getattr(other, name)) for name in Outcome.__struct_fields__)
    return "; ".join(f"{name}: {mine!r} instead of {theirs!r}" for name, mine, theirs in pairs if mine != theirs)


def without_early_binds(mine: tuple[str, ...], whole: tuple[str, ...]) -> tuple[str, ...]:
    """`mine` without the one thing that may be more where a session comes in pieces.

    A Bind that no Execute follows at once goes on before anybody knows whether one will, and planning it may run
    functions: so it is recorded by itself, ahead of the statement.start of the very same text.
    """
    kept, texts = [], {msgspec.json.decode(line).get("sql") for line in whole}
    spare = Counter(whole)
    for line in mine:
        record = msgspec.json.decode(line)
        early = record["type"] == "statement.prepare" and "portal" in record and record["sql"] in texts
        if early and not spare[line]:
            continue
        spare[line] -= 1
        kept.append(line)
    return tuple(kept)


_KEY = Ed25519PrivateKey.generate()


def main(path: Path) -> None:
    """Read, run, print."""
    coded = msgspec.json.decode(path.read_bytes(), type=dict[str, list[tuple[Side, str]]])
    sessions: dict[str, Turns] = {
        name: [(side, base64.b64decode(text)) for side, text in turns] for name, turns in coded.items()
    }

    async def in_loop() -> Report:
        with tempfile.TemporaryDirectory(prefix="curfew-replay-") as folder:
            journal = Journal.open(Path(folder), segment_bytes=1 << 28, limit_bytes=1 << 32)
            try:
                return run(sessions, journal)
            finally:
                journal.close()

    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(in_loop())))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
