"""The service's log as this person sees it: its head, what was seen of it before, and what it proves.

Every proof is checked here; the service is believed nothing but that its log is called what it is called, on first use.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from control.client import heads
from control.client.answers import read
from control.client.api import Api
from control.client.errors import AnsweredError
from control.client.heads import LogKey, verified
from proxy.contract import subset
from proxy.contract.checkpoint import Checkpoint
from proxy.contract.merkle import HASH_BYTES, ProofError, verify_consistency


class LogChecked(msgspec.Struct, frozen=True, kw_only=True):
    """What was found for the log as a whole. `fault` is None where all of it holds."""

    origin: str
    size: int | None = None
    root: str | None = None
    """In base64."""
    key: str
    pinned: bool
    """Whether the key was given, or is the one that was seen before; else it is the service's or the bundle's word."""
    begins_with: list[int] = []
    """The sizes of older heads that it was proven to have all of."""
    fault: str | None = None
    contradicting: list[str] = []
    """Two heads that cannot both be of one log that only grows: evidence, to be kept."""


class Consistency(msgspec.Struct, frozen=True, kw_only=True):
    """The service's proof that one tree begins with another."""

    hashes: list[str]


class SessionProof(msgspec.Struct, frozen=True, kw_only=True):
    """The service's one proof for all records of a session (`GET /v1/log/session`)."""

    size: int
    leaves: list[tuple[int, int]]
    hashes: str
    proof: str


class LogFaultError(Exception):
    """The log is not what it should be. `contradicting` are heads that show it."""

    def __init__(self, text: str, *contradicting: str) -> None:
        super().__init__(text)
        self.contradicting = list(contradicting)


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A head whose signature holds, and what was found for it."""

    head: Checkpoint
    note: str
    key: LogKey
    checked: LogChecked


def look(api: Api, *, key: LogKey | None, older: Sequence[Path], environment: Mapping[str, str]) -> Seen | LogChecked:
    """The log's head of now, held against the newest one this person has seen and the `older` ones in files.

    Only what is wrong comes back where something is. What is good is remembered.
    """
    served = None
    try:
        served = heads.parse_key(_text(api, "/v1/log/key"))
        chosen, pinned = _chosen(api, served, key, environment)
        seen = _look(api, chosen, pinned=pinned, older=older, environment=environment)
    except LogFaultError as error:
        known = key or served
        return LogChecked(
            origin=known.origin if known else "unknown",
            key=known.text if known else "",
            pinned=key is not None,
            fault=str(error),
            contradicting=error.contradicting,
        )
    heads.remember(environment, service=api.url, key=seen.key, note=seen.note)
    return seen


def _chosen(api: Api, served: LogKey, key: LogKey | None, environment: Mapping[str, str]) -> tuple[LogKey, bool]:
    """The key to verify with, and whether it is more than the service's word."""
    if key is not None:
        if served.text != key.text:
            raise LogFaultError(f"the service's log has a foreign key: {served.text} is not the one given")
        return key, True
    memory = heads.recall(environment)
    named = memory.services.get(api.url, served.origin)
    if named != served.origin:
        raise LogFaultError(
            f"the service's log was called {named} and is called {served.origin} now: its old heads prove nothing of "
            "it; if that is right, say so with --log-key"
        )
    kept = memory.logs.get(served.origin)
    if kept is not None and kept.key != served.text:
        raise LogFaultError(f"the log has a foreign key: it was {kept.key}, and is {served.text} now")
    return served, kept is not None


def _look(api: Api, key: LogKey, *, pinned: bool, older: Sequence[Path], environment: Mapping[str, str]) -> Seen:
    kept = heads.recall(environment).logs.get(key.origin)
    notes = [kept.head] if kept is not None else []
    notes += [heads.given_head(path) for path in older]
    note = _text(api, "/v1/log/checkpoint")
    head = _head(note, key, "the service's head of the log")
    sizes = []
    for old in notes:
        before = _head(old, key, "an older head of the log")
        hashes = _consistency(api, old=before.size, new=head.size) if before.size <= head.size else []
        check_begins_with(head, before, hashes, note, old)
        sizes.append(before.size)
    checked = LogChecked(
        origin=key.origin,
        size=head.size,
        root=base64.b64encode(head.root).decode(),
        key=key.text,
        pinned=pinned,
        begins_with=sizes,
    )
    return Seen(head=head, note=note, key=key, checked=checked)


def check_begins_with(head: Checkpoint, before: Checkpoint, hashes: list[str], note: str, old: str) -> None:
    """Check that the log still has all that an older head had. Raises LogFaultError with both."""
    if before.size > head.size:
        raise LogFaultError(
            f"the log was ROLLED BACK: it had {before.size} records, and has {head.size} now", old, note
        )
    try:
        verify_consistency(before.size, head.size, decoded(hashes), before.root, head.root)
    except ProofError as error:
        raise LogFaultError(
            f"the log was REWRITTEN: its first {before.size} records are not what they were ({error})", old, note
        ) from error


def prove_session(answer: Any, head: Checkpoint) -> tuple[list[int], list[bytes]]:  # noqa: ANN401 JSON
    """The places of a session's records in the log and their hashes, all proven by `head`. Raises LogFaultError."""
    given = read(SessionProof, answer)
    hashes, proof = _cut(given.hashes), _cut(given.proof)
    counts = [count for _, count in given.leaves]
    # A hostile range must not make a list of its length: there are as many leaves as there are hashes.
    if given.size != head.size or sum(counts) != len(hashes) or min(counts, default=1) < 1:
        raise LogFaultError("the proof of the session's records does not fit the log's head")
    leaves = [leaf for first, count in given.leaves for leaf in range(first, first + count)]
    try:
        if subset.root_of(leaves, hashes, head.size, proof) != head.root:
            raise LogFaultError("the proof of the session's records does not lead to the log's head")
    except ProofError as error:
        raise LogFaultError(f"the proof of the session's records is none: {error}") from error
    return leaves, hashes


def session_proof(api: Api, session: str, head: Checkpoint) -> Any:  # noqa: ANN401 JSON
    """The service's proof for a session. Raises LogFaultError where the service has none."""
    try:
        return api.get("/v1/log/session", session=session, size=head.size)
    except AnsweredError as error:
        raise LogFaultError(f"the service does not prove the session's records: {error}") from error


def faulty(checked: LogChecked, error: LogFaultError) -> LogChecked:
    """What was found, and that it does not hold after all."""
    return msgspec.structs.replace(checked, fault=str(error), contradicting=error.contradicting)


def decoded(hashes: Sequence[str]) -> list[bytes]:
    """A proof's hashes; one that is none is empty, which no proof takes."""
    return [_base64(one) for one in hashes]


def _head(note: str, key: LogKey, what: str) -> Checkpoint:
    try:
        return verified(note, key)
    except ProofError as error:
        raise LogFaultError(f"{what} is not signed by the log's key: {error}", note) from error


def _text(api: Api, path: str) -> str:
    try:
        return api.text(path)
    except AnsweredError as error:
        raise LogFaultError(f"the service has no log to show: {error}") from error


def _consistency(api: Api, *, old: int, new: int) -> list[str]:
    try:
        return read(Consistency, api.get("/v1/log/consistency", old=old, new=new)).hashes
    except AnsweredError as error:
        raise LogFaultError(f"the service does not prove what its log begins with: {error}") from error


def _cut(text: str) -> list[bytes]:
    raw = _base64(text)
    return [raw[at : at + HASH_BYTES] for at in range(0, len(raw), HASH_BYTES)]


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
