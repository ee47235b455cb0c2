"""Signed tree heads: the form of transparency logs, with an example of its specification, and what is refused."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from proxy.contract import checkpoint
from proxy.contract.checkpoint import Checkpoint
from proxy.contract.merkle import ProofError

ORIGIN = "curfew.example.com"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
HEAD = Checkpoint(origin=ORIGIN, size=20_852_163, root=hashlib.sha256(b"root").digest())
NOTE = checkpoint.sign(HEAD, KEY)
WITNESS = "\N{EM DASH} witness.example AAAAAAAA\n"

GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = """\
If you think cryptography is the answer to your problem,
then you don't know what your problem is.

\N{EM DASH} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
"""


def test_round_trip() -> None:
    """And the text itself, which others parse."""
    lines = NOTE.split("\n")
    assert lines[:4] == [ORIGIN, "20852163", base64.b64encode(HEAD.root).decode(), ""]
    assert lines[4].startswith(f"\N{EM DASH} {ORIGIN} ")
    assert lines[5:] == [""]
    assert checkpoint.verify(NOTE, KEY.public_key(), origin=ORIGIN) == HEAD
    assert checkpoint.verify(NOTE + WITNESS, KEY.public_key(), origin=ORIGIN) == HEAD
    empty = Checkpoint(origin=ORIGIN, size=0, root=hashlib.sha256().digest())
    assert checkpoint.verify(checkpoint.sign(empty, KEY), KEY.public_key(), origin=ORIGIN) == empty


def test_signed_notes_of_others() -> None:
    """The example of Go's golang.org/x/mod/sumdb/note: its signature holds here; it is no tree's head all the same."""
    name, _, raw = GO_KEY.split("+")
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(raw)[1:])
    assert checkpoint.verifier_key(name, key) == GO_KEY
    assert checkpoint.read_verifier_key(GO_KEY) == (name, key)
    with pytest.raises(ProofError, match="another log"):
        checkpoint.verify(GO_NOTE, key, origin=name)


@pytest.mark.parametrize(
    "note",
    [
        NOTE.replace("20852163", "20852164"),
        NOTE.replace(ORIGIN, "evil.example.com"),
        NOTE.replace("\n\n", "\nmore\n\n"),
        NOTE.rstrip("\n"),
        NOTE.split("\n\n")[0],
        "",
        "\n\n\n",
        NOTE + "x" * checkpoint.MOST_BYTES + "\n",
        NOTE + WITNESS * checkpoint.MOST_SIGNATURES,
        NOTE.replace("\N{EM DASH}", "-"),
    ],
)
def test_refused(note: str) -> None:
    """Whatever is not what was signed."""
    with pytest.raises(ProofError):
        checkpoint.verify(note, KEY.public_key(), origin=ORIGIN)


@pytest.mark.parametrize(
    "text",
    [
        f"{ORIGIN}\n020852163\n{base64.b64encode(HEAD.root).decode()}\n",
        f"{ORIGIN}\n-1\n{base64.b64encode(HEAD.root).decode()}\n",
        f"{ORIGIN}\n{2**80}\n{base64.b64encode(HEAD.root).decode()}\n",
        f"{ORIGIN}\n1\nAAAA\n",
        f"{ORIGIN}\n1\n!\n",
        f"{ORIGIN}\n",
    ],
)
def test_signed_but_malformed(text: str) -> None:
    """A signature makes no tree's head of anything."""
    raw = KEY.sign(text.encode())
    known = base64.b64decode(NOTE.rsplit(" ", 1)[1])[:4]
    note = f"{text}\n\N{EM DASH} {ORIGIN} {base64.b64encode(known + raw).decode()}\n"
    with pytest.raises(ProofError, match="malformed"):
        checkpoint.verify(note, KEY.public_key(), origin=ORIGIN)


def test_another_key() -> None:
    """Of the same name."""
    other = Ed25519PrivateKey.generate().public_key()
    with pytest.raises(ProofError, match="not signed by this key"):
        checkpoint.verify(NOTE, other, origin=ORIGIN)


@pytest.mark.parametrize("origin", ["", "two words", "a+b", "line\nbreak", "x" * 256, "nul\0"])
def test_names(origin: str) -> None:
    """What cannot name a log."""
    with pytest.raises(ValueError, match="cannot name a log"):
        checkpoint.sign(Checkpoint(origin=origin, size=0, root=b""), KEY)


@pytest.mark.parametrize(
    "text",
    ["", "name", "name+c74f20a3", GO_KEY + "\n", GO_KEY.replace("c74f20a3", "c74f20a4"), "x" + GO_KEY, GO_KEY[:-4]],
)
def test_what_is_no_verifier_key(text: str) -> None:
    """Its id holds its name and its key together."""
    with pytest.raises(ValueError, match="key"):
        checkpoint.read_verifier_key(text)


def test_another_key_id() -> None:
    """What says that it is another key's signature is passed over, whatever it is."""
    head, signature = NOTE.rsplit(" ", 1)
    raw = base64.b64decode(signature)
    other = base64.b64encode(bytes(4) + raw[4:]).decode()
    with pytest.raises(ProofError, match="not signed by this key"):
        checkpoint.verify(f"{head} {other}\n", KEY.public_key(), origin=ORIGIN)


def test_the_head_of_another_log_of_the_same_key() -> None:
    """Under this log's name."""
    text = f"other.example.com\n20852163\n{base64.b64encode(HEAD.root).decode()}\n"
    known = base64.b64decode(NOTE.rsplit(" ", 1)[1])[:4]
    note = f"{text}\n\N{EM DASH} {ORIGIN} {base64.b64encode(known + KEY.sign(text.encode())).decode()}\n"
    with pytest.raises(ProofError, match="another log"):
        checkpoint.verify(note, KEY.public_key(), origin=ORIGIN)
