"""Unix sockets: who may connect, what becomes of a dead process's socket, and of our own."""

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy import listener
from proxy.tasks import spawn
from tests.harness.waiting import eventually

DESCRIPTORS = Path("/proc/self/fd")


@pytest.fixture
def path() -> Iterator[str]:
    """Where a socket can be made: a short path, as unix(7) wants it."""
    with tempfile.TemporaryDirectory() as folder:
        yield f"{folder}/.s.PGSQL.6432"


def alive(path: str) -> bool:
    """Whether somebody listens there."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o777])
def test_mode_and_group(path: str, mode: int) -> None:
    """As asked for, whatever the process's umask is; and that is as it was."""
    before = os.umask(0o027)
    try:
        listening, _ = listener.bind_unix(path, mode=mode, gid=os.getgid())
        with listening:
            found = Path(path).stat()
            assert stat.S_IMODE(found.st_mode) == mode
            assert found.st_gid == os.getgid()
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_a_dead_processs_socket(path: str) -> None:
    """Goes, and the new one is at its place."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    assert Path(path).exists()
    listening, _ = listener.bind_unix(path, mode=0o600, gid=-1)
    with listening:
        assert alive(path)


def test_a_socket_in_use(path: str) -> None:
    """Stays, and whoever listens there goes on."""
    listening, _ = listener.bind_unix(path, mode=0o600, gid=-1)
    with listening:
        with pytest.raises(OSError, match=r"another process listens there: .*\.s\.PGSQL\.6432"):
            listener.bind_unix(path, mode=0o600, gid=-1)
        assert alive(path)


def test_a_socket_in_use_with_a_full_queue(path: str) -> None:
    """Is no dead one."""
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(path)
        busy.listen(0)
        waiting.connect(path)
        with pytest.raises(OSError, match="another process listens there"):
            listener.bind_unix(path, mode=0o600, gid=-1)
        assert Path(path).exists()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket(path: str, kind: str) -> None:
    """Is never removed."""
    if kind == "file":
        Path(path).write_text("precious")
    elif kind == "folder":
        Path(path).mkdir()
    else:
        Path(path).symlink_to("/nowhere")
    with pytest.raises(FileExistsError, match="it is no socket"):
        listener.bind_unix(path, mode=0o600, gid=-1)
    assert os.path.lexists(path)


def test_no_folder(path: str) -> None:
    """Is an OSError that names it, and leaves nothing open."""
    before = len(list(DESCRIPTORS.iterdir()))
    with pytest.raises(OSError, match="nowhere"):
        listener.bind_unix(f"{path}/nowhere/.s.PGSQL.6432", mode=0o600, gid=-1)
    assert len(list(DESCRIPTORS.iterdir())) == before


def test_removed(path: str) -> None:
    """Our own; twice is no fault, and another one that has taken its place stays."""
    listening, file = listener.bind_unix(path, mode=0o600, gid=-1)
    with listening:
        file.remove()
        assert not Path(path).exists()
        file.remove()
        other, _ = listener.bind_unix(path, mode=0o600, gid=-1)
        with other:
            file.remove()
            assert alive(path)


async def test_accept(path: str) -> None:
    """As from TCP, without an address and without TCP's options."""
    accepted: list[tuple[socket.socket, str]] = []
    listening, _ = listener.bind_unix(path, mode=0o600, gid=-1)
    with listening, socket.socket(socket.AF_UNIX) as client:
        task = spawn("accept", listener.accept(listening, lambda *one: accepted.append(one), lambda: False))
        client.connect(path)
        await eventually(lambda: accepted)
        task.cancel()
        ((one, address),) = accepted
        with one:
            assert (address, one.getblocking()) == ("", False)
