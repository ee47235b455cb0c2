"""Small files are whole or not there."""

from pathlib import Path

import pytest

from proxy import files


@pytest.mark.parametrize("durable", [True, False])
def test_replace_puts_the_new_content_for_the_owner_alone(tmp_path: Path, durable: bool) -> None:  # noqa: FBT001 a parameter of the test
    """Nothing else is left behind."""
    path = tmp_path / "file"
    path.write_bytes(b"old and longer")
    path.chmod(0o644)
    files.replace(path, b"new", durable=durable)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_failed_replace_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    """Here the name is taken by a directory."""
    path = tmp_path / "file"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        files.replace(path, b"new", durable=False)
    assert list(tmp_path.iterdir()) == [path]


def test_create_never_touches_a_file_that_is_there(tmp_path: Path) -> None:
    """The second of two wins nothing."""
    path = tmp_path / "file"
    files.create(path, b"first")
    with pytest.raises(FileExistsError):
        files.create(path, b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]
