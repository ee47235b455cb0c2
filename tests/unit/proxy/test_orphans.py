"""What a dead worker has left, as its journal says it."""

from pathlib import Path

from proxy import orphans
from proxy.contract.directive import Orphan
from tests.unit.proxy.journals import begin, end_record, open_journal


def test_find(tmp_path: Path) -> None:
    """The sessions that have begun and not ended; reading changes nothing."""
    assert orphans.find(tmp_path / "never") == []
    journal = open_journal(tmp_path)
    ended = begin(journal, "ended")
    begin(journal, "open")
    journal.append_end(ended, ended.seal(end_record()))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    (found,) = orphans.find(tmp_path)
    assert found == Orphan(
        session="open", target="orders", server=None, pid=1, started="2026-01-01T00:00:00.000000+00:00"
    )
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    journal.close()
