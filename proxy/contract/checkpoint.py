"""A signed tree head: how many records there are, and the root over them, as a text that anybody can keep and check.

The form is that of transparency logs (https://c2sp.org/tlog-checkpoint, https://c2sp.org/signed-note), so tools and
witnesses that were made for those read it too:

    curfew.example.com
    20852163
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

    — curfew.example.com Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from proxy.contract.merkle import HASH_BYTES, MOST_LEAVES, ProofError

MOST_BYTES = 16_384
MOST_SIGNATURES = 32
_ED25519 = b"\1"
_ID_BYTES = 4
_SIGNED_BY = "\N{EM DASH} "


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The head of a tree."""

    origin: str
    """The log's name, which stands for its key too: a host name, for instance."""
    size: int
    """How many records it has."""
    root: bytes


def check_origin(origin: str) -> str:
    """`origin`, where it can be the name of a log and of a key. Raises ValueError."""
    if not origin or len(origin) > 255 or any(one.isspace() or one == "+" or not one.isprintable() for one in origin):  # noqa: PLR2004 as a host name
        raise ValueError(f"{origin!r} cannot name a log: no spaces, no '+', at most 255 characters")
    return origin


def sign(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> str:
    """The checkpoint as a signed note. Raises ValueError where its origin cannot be a name."""
    text = f"{check_origin(checkpoint.origin)}\n{checkpoint.size}\n{_base64(checkpoint.root)}\n"
    signature = _key_id(checkpoint.origin, key.public_key()) + key.sign(text.encode())
    return f"{text}\n{_SIGNED_BY}{checkpoint.origin} {_base64(signature)}\n"


def verify(note: str, key: Ed25519PublicKey, *, origin: str) -> Checkpoint:
    """The checkpoint that `note` says, where this key has signed it under this name. Raises ProofError.

    Further signatures (a witness's) are passed over.
    """
    text, signatures = _parts(note)
    named = f"{_SIGNED_BY}{origin} "
    expected = _key_id(origin, key)
    for line in signatures:
        signature = _decode(line.removeprefix(named)) if line.startswith(named) else b""
        if signature[:_ID_BYTES] == expected and _holds(key, signature[_ID_BYTES:], text):
            return _read(text, origin)
    raise ProofError("the tree's head is not signed by this key")


def verifier_key(origin: str, key: Ed25519PublicKey) -> str:
    """The key in the form that signed notes have for it: NAME+ID+KEY."""
    return f"{origin}+{_key_id(origin, key).hex()}+{_base64(_ED25519 + key.public_bytes_raw())}"


def _parts(note: str) -> tuple[str, list[str]]:
    head, mark, tail = note.rpartition("\n\n")
    if len(note.encode()) > MOST_BYTES or not mark or not tail.endswith("\n"):
        raise ProofError("not a signed tree head")
    signatures = tail.removesuffix("\n").split("\n")
    if len(signatures) > MOST_SIGNATURES:
        raise ProofError(f"more than {MOST_SIGNATURES} signatures on a tree's head")
    return head + "\n", signatures


def _holds(key: Ed25519PublicKey, signature: bytes, text: str) -> bool:
    try:
        key.verify(signature, text.encode())
    except InvalidSignature:
        return False
    return True


def _read(text: str, origin: str) -> Checkpoint:
    name, size, root, *_ = [*text.split("\n"), "", ""]
    root_hash = _decode(root)
    # One spelling for a number: two notes that differ must not say the same.
    if name != origin or not (size.isascii() and size.isdecimal()) or size != str(int(size[:20])):
        raise ProofError("the tree's head is of another log, or malformed")
    if int(size) > MOST_LEAVES or len(root_hash) != HASH_BYTES:
        raise ProofError("the tree's head is malformed")
    return Checkpoint(origin=origin, size=int(size), root=root_hash)


def _key_id(origin: str, key: Ed25519PublicKey) -> bytes:
    return hashlib.sha256(origin.encode() + b"\n" + _ED25519 + key.public_bytes_raw()).digest()[:_ID_BYTES]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
