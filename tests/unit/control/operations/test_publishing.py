"""Publishing heads to folders: each once, never over another."""

from pathlib import Path

import pytest

from control.operations.publishing import PublishError, _pause, label, write
from control.store.tree import Head


def head(size: int, note: str = "a note\n") -> Head:
    """A head."""
    return Head(origin="log", size=size, root=bytes(32), note=note, signed_at=0)


def test_each_head_is_a_file_that_nobody_writes_to(tmp_path: Path) -> None:
    """Named by its size, so that names sort; publishing it again, after a restart, changes nothing."""
    for size in (9, 10, 10):
        write(head(size), tmp_path)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["checkpoint-000000000000009", "checkpoint-000000000000010"]
    assert [(file.read_text(), file.stat().st_mode & 0o777) for file in files] == [("a note\n", 0o444)] * 2


@pytest.mark.parametrize("there", ["", "a no", "a note\nand more", "b note\n"])
def test_another_head_is_never_overwritten(tmp_path: Path, there: str) -> None:
    """It may be the very proof that the log was changed."""
    path = tmp_path / "checkpoint-000000000000009"
    path.write_text(there)
    with pytest.raises(PublishError, match="holds another head"):
        write(head(9), tmp_path)
    assert path.read_text() == there


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    """Is not made: a volume that is not mounted must not look like one that is."""
    with pytest.raises(PublishError, match="No such file"):
        write(head(9), tmp_path / "unmounted")


def test_a_secret_in_a_url_is_not_shown() -> None:
    """Logs and metrics name the host alone."""
    assert label("https://witness.example/hook/s3cret?token=s3cret") == "witness.example"
    assert label("/mnt/worm") == "/mnt/worm"


def test_a_failing_target_is_tried_later_and_later() -> None:
    """Up to an hour, for as long as it takes."""
    assert [_pause(60, failures) for failures in (0, 1, 2, 6, 100_000)] == [60, 120, 240, 3_600, 3_600]
    assert _pause(7_200, 3) == 7_200
