"""What a dead worker has left, as its journal says it; and what is made of several keepers' words for one backend."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from proxy import orphans
from proxy.contract.directive import Orphan
from proxy.orphans import NobodyToAskError
from proxy.shared import Shared
from proxy.stop import Gone
from tests.unit.proxy.journals import begin, end_record, open_journal

ORPHAN = Orphan(session="s", target="orders", server="a:1", pid=1, started="2026-01-01T00:00:00.000000+00:00")
SEEN = Gone(gone_at=5, seen=True, transaction="aborted")
NEVER_SEEN = Gone(gone_at=9, seen=False, transaction=None)


@dataclass(frozen=True)
class Word:
    """A keeper that says this."""

    gone: Gone

    async def stop(self, pid: int, backend_start: str, *, mark: int | None) -> Gone:
        """As `Keeper`."""
        assert (pid, backend_start, mark) == (ORPHAN.pid, ORPHAN.started, None)
        return self.gone


def shared(*words: Gone, named: bool = True) -> Shared:
    """A target with keepers that say this; `named`: the orphan's server is one of them."""
    link = SimpleNamespace(keepers_of=lambda _: [Word(one) for one in words], has_server=lambda _: named, pooled=False)
    return cast("Shared", SimpleNamespace(targets={"orders": link}))


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


@pytest.mark.parametrize("words", [(SEEN, NEVER_SEEN), (NEVER_SEEN, SEEN)])
async def test_who_has_seen_it_knows(words: tuple[Gone, Gone]) -> None:
    """Of several servers one had it, whoever answers last."""
    assert await orphans.stop(ORPHAN, shared(*words)) is SEEN


async def test_a_server_that_is_configured_no_more() -> None:
    """Others have not seen the backend: that proves nothing; where one has, the server has another name by now."""
    assert await orphans.stop(ORPHAN, shared(NEVER_SEEN)) is NEVER_SEEN
    assert await orphans.stop(ORPHAN, shared(NEVER_SEEN, SEEN, named=False)) is SEEN
    with pytest.raises(NobodyToAskError, match="has the host a:1 no more"):
        await orphans.stop(ORPHAN, shared(NEVER_SEEN, NEVER_SEEN, named=False))
    with pytest.raises(NobodyToAskError, match="not configured"):
        await orphans.stop(ORPHAN, cast("Shared", SimpleNamespace(targets={})))
