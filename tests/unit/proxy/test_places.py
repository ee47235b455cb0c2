"""Places: which folder is whose, and which are nobody's any more."""

from pathlib import Path

from proxy.places import left_behind, of_single, of_worker, of_workers_ever


def journal(folder: Path) -> Path:
    """A folder with a journal in it."""
    (folder / "journal").mkdir(parents=True)
    return folder


def test_whose_is_what(tmp_path: Path) -> None:
    """One process has all in one place; of several, the first joins."""
    assert of_single(tmp_path).own == of_single(tmp_path).home == tmp_path
    first, second = of_worker(tmp_path, 1), of_worker(tmp_path, 2)
    assert (first.home, first.own, first.first) == (tmp_path, tmp_path / "worker-1", True)
    assert (second.home, second.own, second.first) == (tmp_path, tmp_path / "worker-2", False)


def test_the_number_of_workers_changes(tmp_path: Path) -> None:
    """What the others have left is found, from one process to several, to fewer, and back to one."""
    assert left_behind(tmp_path, 1) == left_behind(tmp_path, 2) == []
    single = journal(tmp_path)
    workers = [journal(tmp_path / f"worker-{number}") for number in (1, 2, 10)]
    (tmp_path / "worker-x" / "journal").mkdir(parents=True)
    (tmp_path / "worker-3").mkdir()
    assert left_behind(tmp_path, 1) == workers
    assert left_behind(tmp_path, 2) == [single, workers[2]]
    assert left_behind(tmp_path, 10) == [single]
    assert of_workers_ever(tmp_path) == [workers[0], workers[1], tmp_path / "worker-3", workers[2]]
