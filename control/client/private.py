"""Writing the command's own files: for their owner alone, and never half of one."""

import os
import tempfile
from pathlib import Path

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
