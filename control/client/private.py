"""Writing the command's own files: for their owner alone, and never half of one."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from control.client.errors import ClientError


def write(path: Path, content: msgspec.Struct) -> None:
    """Have `path` hold `content` as JSON, whatever it held before. Raises ClientError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mkstemp makes the file 0600 from its first moment (tempfile's own promise).
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(content)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ClientError(f"cannot write {path}: {error.strerror}") from error


@contextmanager
def new(path: Path) -> Iterator[IO[bytes]]:
    """A new file at `path`, on disk when this is left; nothing is left there where it raises. Raises ClientError.

    What is there already is never overwritten: it may be somebody's evidence.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise ClientError(f"{path} is there already", hint="it is never overwritten: name another file") from error
    except OSError as error:
        raise ClientError(f"cannot write {path}: {error.strerror}") from error
    file = os.fdopen(descriptor, "wb")
    try:
        try:
            yield file
            file.flush()
            os.fsync(descriptor)
        finally:
            file.close()
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise ClientError(f"cannot write {path}: {error.strerror or error}") from error
        raise
