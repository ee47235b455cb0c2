"""What was seen of logs is kept: keys on first use, and never an older head for a newer one."""

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from control.client import heads
from control.client.errors import ClientError
from proxy.contract import checkpoint
from proxy.contract.checkpoint import Checkpoint

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
LOG = heads.parse_key(checkpoint.verifier_key("log.example", KEY.public_key()))


def note(size: int, origin: str = "log.example", key: Ed25519PrivateKey = KEY) -> str:
    """A signed head."""
    return checkpoint.sign(Checkpoint(origin=origin, size=size, root=hashlib.sha256(b"%d" % size).digest()), key)


def test_the_newest_head_is_kept(tmp_path: Path) -> None:
    """For its owner alone; two commands at once do not put an older one in its place."""
    environment = {"HOME": str(tmp_path)}
    assert heads.recall(environment) == heads.Memory()
    for size in (5, 9, 7):
        heads.remember(environment, service="https://c", key=LOG, note=note(size))
    memory = heads.recall(environment)
    assert memory.logs == {"log.example": heads.Kept(key=LOG.text, head=note(9))}
    assert memory.services == {"https://c": "log.example"}
    path = tmp_path / ".local" / "state" / "curfew" / "logs.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["logs.json"]


def test_where_it_is_kept(tmp_path: Path) -> None:
    """As XDG has it."""
    absolute = {"HOME": "/home/x", "XDG_STATE_HOME": str(tmp_path)}
    assert heads.memory_path(absolute) == tmp_path / "curfew" / "logs.json"
    assert heads.memory_path(absolute | {"XDG_STATE_HOME": "relative"}) == Path("/home/x/.local/state/curfew/logs.json")


@pytest.mark.parametrize("content", [b"", b"{", b'{"logs": {"x": {}}}', b"\xff"])
def test_what_is_damaged_is_not_passed_over(tmp_path: Path, content: bytes) -> None:
    """To go on without would be to trust anew, which is what an attacker wants."""
    (tmp_path / "curfew").mkdir()
    (tmp_path / "curfew" / "logs.json").write_bytes(content)
    with pytest.raises(ClientError, match="is damaged"):
        heads.recall({"XDG_STATE_HOME": str(tmp_path)})


def test_keys_come_as_text_or_in_a_file(tmp_path: Path) -> None:
    """Nothing else is one."""
    (tmp_path / "key").write_text(LOG.text + "\n")
    assert heads.given_key(LOG.text).key == heads.given_key(str(tmp_path / "key")).key == KEY.public_key()
    other = LOG.text.replace("log.example", "log.example.org")
    for text in ("", "log.example", "log.example+00000000+AAAA", other, "\x1b[2J+00000000+" + LOG.text[-44:], "ä+b+c"):
        with pytest.raises(ClientError, match="no log's public key"):
            heads.given_key(text)


def test_heads_from_files(tmp_path: Path) -> None:
    """One that is too long is cut, and does not verify."""
    (tmp_path / "head").write_text(note(5))
    assert heads.verified(heads.given_head(tmp_path / "head"), LOG).size == 5
    (tmp_path / "head").write_bytes(b"\xff")
    for path in (tmp_path / "head", tmp_path / "none"):
        with pytest.raises(ClientError, match="cannot read the head"):
            heads.given_head(path)
