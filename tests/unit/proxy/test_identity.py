"""The proxy's key: made once, private, and refused in every doubtful state."""

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from proxy.contract.proof import public_text
from proxy.identity import KEY_FILE, IdentityError, load_or_create


def test_key_is_made_once_and_found_again(tmp_path: Path) -> None:
    """The second start has the first one's key, in a PKCS8 file of mode 0600 and nothing else."""
    state_dir = tmp_path / "state"
    first, second = load_or_create(state_dir), load_or_create(state_dir)
    assert public_text(first.public_key()) == public_text(second.public_key())
    path = state_dir / KEY_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert list(state_dir.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_key_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    """The text says what to do."""
    load_or_create(tmp_path)
    (tmp_path / KEY_FILE).chmod(mode)
    with pytest.raises(IdentityError, match="chmod 0600"):
        load_or_create(tmp_path)


@pytest.mark.parametrize("text", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_file_that_is_no_key_is_refused_and_kept(tmp_path: Path, text: bytes) -> None:
    """A key that cannot be read is never replaced by itself."""
    path = tmp_path / KEY_FILE
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(IdentityError, match="not a PKCS8"):
        load_or_create(tmp_path)
    assert path.read_bytes() == text


def test_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    """Only Ed25519 signs records."""
    key = generate_private_key(SECP256R1())
    path = tmp_path / KEY_FILE
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    with pytest.raises(IdentityError, match="not an Ed25519 key"):
        load_or_create(tmp_path)


def test_fifo_does_not_hang_the_start(tmp_path: Path) -> None:
    """What is no file is refused before it is read."""
    os.mkfifo(tmp_path / KEY_FILE, 0o600)
    with pytest.raises(IdentityError, match="not a file"):
        load_or_create(tmp_path)


def test_state_dir_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """Here a file stands in its place."""
    (tmp_path / "state").write_text("")
    with pytest.raises(IdentityError, match=r"/state/proxy\.key: .*state directory"):
        load_or_create(tmp_path / "state")
