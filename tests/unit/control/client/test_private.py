"""The command's own files."""

import errno
import stat
from pathlib import Path

import pytest

from control.client import private
from control.client.errors import ClientError


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    """Whatever the umask."""
    with private.new(tmp_path / "new") as file:
        file.write(b"evidence")
    assert (tmp_path / "new").read_bytes() == b"evidence"
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """Not through a link either."""
    there, link = tmp_path / "there", tmp_path / "link"
    there.write_bytes(b"evidence")
    link.symlink_to(tmp_path / "elsewhere")
    for path in (there, link):
        with pytest.raises(ClientError, match="is there already"), private.new(path):
            pass
    assert there.read_bytes() == b"evidence"
    assert not (tmp_path / "elsewhere").exists()


def _begin(path: Path, error: Exception) -> None:
    with private.new(path) as file:
        file.write(b"half")
        raise error


@pytest.mark.parametrize(
    ("error", "said"),
    [(OSError(errno.ENOSPC, "No space left on device"), r"cannot write .*: No space"), (ClientError("cut"), "cut")],
)
def test_no_half_of_a_file_is_left(tmp_path: Path, error: Exception, said: str) -> None:
    """Whatever went wrong."""
    with pytest.raises(ClientError, match=said):
        _begin(tmp_path / "new", error)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    """By the file's name."""
    with (
        pytest.raises(ClientError, match=r"cannot write .*none/new: No such file"),
        private.new(tmp_path / "none" / "new"),
    ):
        pass
