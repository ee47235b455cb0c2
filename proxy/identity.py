"""The proxy's own Ed25519 key, `proxy.key` in the state directory: it signs requests to control and sessions' ends.

Made once and never replaced here: control knows the public half, and old records verify with it alone.
"""

import os
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from proxy import files

KEY_FILE = "proxy.key"
KEY_FILE_BYTES = 4_096
"""A PKCS8 Ed25519 key takes 119 bytes of PEM; what is longer than this is something else."""


class IdentityError(Exception):
    """The key cannot be used. The text names the file and what to do."""


def load_or_create(state_dir: Path) -> Ed25519PrivateKey:
    """The key in `state_dir`, made there on the first start. Raises IdentityError."""
    path = state_dir / KEY_FILE
    try:
        if not path.exists():
            _create(path)
        return _load(path)
    except OSError as error:
        raise IdentityError(f"{path}: {error.strerror or error}; the proxy must own its state directory") from error


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        files.create(path, pem)
    except FileExistsError:
        return  # another start was quicker: its key is the key


def _load(path: Path) -> Ed25519PrivateKey:
    # Judged on the open file, so that what was checked is what is read. O_NONBLOCK: a fifo must not hang the start.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise IdentityError(f"{path}: not a file; move it away, and the proxy makes a new key and joins again")
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise IdentityError(
                f"{path}: others may use this private key (mode {stat.S_IMODE(status.st_mode):04o}); "
                f"if nobody can have read it, chmod 0600 it, otherwise delete it and join again"
            )
        pem = file.read(KEY_FILE_BYTES)
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise IdentityError(f"{path}: not a PKCS8 private key; restore it, or delete it and join again") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise IdentityError(f"{path}: not an Ed25519 key; restore it, or delete it and join again")
    return key
