"""Small files of the state directory, written whole or not at all, or locked. Knows nothing of what is in them."""

import fcntl
import os
import secrets
from pathlib import Path

PRIVATE = 0o600


def replace(path: Path, data: bytes, *, durable: bool) -> None:
    """Put `data` at `path` for the owner's eyes only: a reader sees the old file or the new one, never a part.

    With `durable` it is on disk before the old one is gone, and so is its name (rename(2) alone promises neither).
    """
    temporary = _write_aside(path, data, durable=durable)
    try:
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


def create(path: Path, data: bytes) -> None:
    """As a durable `replace`, but raises FileExistsError rather than touch a file that is there."""
    temporary = _write_aside(path, data, durable=True)
    try:
        os.link(temporary, path)  # the one call that names a complete file and fails where the name is taken
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def lock(path: Path) -> int:
    """Take the file `path`, made where it is missing, for as long as the descriptor that this returns is open.

    It reads, and it appends. Raises OSError: BlockingIOError where somebody else has the file.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, PRIVATE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def sync_directory(path: Path) -> None:
    """Make the names in the directory `path` outlast a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_aside(path: Path, data: bytes, *, durable: bool) -> Path:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(descriptor)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary
