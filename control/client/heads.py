"""The log's heads that this person has seen, and the keys they were signed with: what finds out a store that goes back.

Owns `$XDG_STATE_HOME/curfew/logs.json`. Nothing in it is secret; whoever removes it begins anew, as on first use.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from control.client import private
from control.client.errors import ClientError
from proxy.contract import checkpoint
from proxy.contract.checkpoint import MOST_BYTES, Checkpoint, verifier_key
from proxy.contract.merkle import ProofError

MEMORY_BYTES = 1 << 20
FORM = "it is one line, NAME+ID+KEY, as GET /v1/log/key shows it; or give a file with it"


class LogKey(msgspec.Struct, frozen=True, kw_only=True):
    """A log's name and public key."""

    origin: str
    key: Ed25519PublicKey
    text: str
    """Both, as signed notes write it."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of one log: its key, and the newest head."""

    key: str
    head: str


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of all logs, by their names; and which log each service had."""

    logs: dict[str, Kept] = {}
    services: dict[str, str] = {}


def parse_key(text: str) -> LogKey:
    """The verifier key in `text`. Raises ClientError."""
    try:
        origin, key = checkpoint.read_verifier_key(text.strip())
    except ValueError as error:
        raise ClientError("that is no log's public key", hint=FORM) from error
    return LogKey(origin=origin, key=key, text=verifier_key(origin, key))


def given_key(text: str) -> LogKey:
    """The verifier key in `text`, or in the file that it names. Raises ClientError."""
    path = Path(text)
    try:
        content = path.read_bytes()[:MOST_BYTES].decode() if path.is_file() else text
    except (OSError, ValueError) as error:
        raise ClientError(f"cannot read {text}", hint=FORM) from error
    return parse_key(content)


def given_head(path: Path) -> str:
    """The signed head in a file. Raises ClientError."""
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ClientError(f"cannot read the head in {path}") from error


def verified(note: str, key: LogKey) -> Checkpoint:
    """What a head says, where its key has signed it. Raises ProofError."""
    return checkpoint.verify(note, key.key, origin=key.origin)


def memory_path(environment: Mapping[str, str]) -> Path:
    """Where it is kept (XDG Base Directory Specification: a relative XDG_STATE_HOME is to be ignored)."""
    base = environment.get("XDG_STATE_HOME", "")
    home = Path(environment.get("HOME", "~")).expanduser()
    return (Path(base) if base.startswith("/") else home / ".local" / "state") / "curfew" / "logs.json"


def recall(environment: Mapping[str, str]) -> Memory:
    """What was seen. Raises ClientError where it cannot be read: to go on without would be to trust anew."""
    path = memory_path(environment)
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(MEMORY_BYTES), type=Memory)
    except FileNotFoundError:
        return Memory()
    except OSError as error:
        raise ClientError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        hint = "it has the heads of logs that you have seen; without it, trust begins anew: remove it if you must"
        raise ClientError(f"{path} is damaged: {error}", hint=hint) from error


def remember(environment: Mapping[str, str], *, service: str, key: LogKey, note: str) -> None:
    """Keep a head that is good, unless a newer one was kept meanwhile. Raises ClientError."""
    memory = recall(environment)
    kept = memory.logs.get(key.origin)
    try:
        newer = kept is not None and kept.key == key.text and verified(kept.head, key).size > verified(note, key).size
    except ProofError:
        newer = False
    logs = memory.logs if newer else memory.logs | {key.origin: Kept(key=key.text, head=note)}
    private.write(memory_path(environment), Memory(logs=logs, services=memory.services | {service: key.origin}))
