"""Reading records in pieces."""

from pathlib import Path

import pytest

from control.domain.sessions import Session
from control.store import proxies, records, sessions
from control.store.engine import open_store

LINES = [b"a" * 10, b"b" * 10, b"c" * 100, b"d" * 10]


@pytest.mark.parametrize(
    ("after", "lines", "size", "expected"),
    [
        (-1, 10, 1_000, [0, 1, 2, 3]),
        (-1, 2, 1_000, [0, 1]),
        (-1, 10, 20, [0, 1]),
        (-1, 10, 29, [0, 1]),
        (1, 10, 5, [2]),
        (2, 10, 5, [3]),
        (3, 10, 5, []),
    ],
)
async def test_a_piece_is_bounded(
    tmp_path: Path, template: Path, *, after: int, lines: int, size: int, expected: list[int]
) -> None:
    """In lines and in bytes, and yet never empty where there is something left."""
    path = tmp_path / "db"
    path.write_bytes(template.read_bytes())
    store = open_store(path)
    async with store.write() as tx:
        await proxies.add(tx, "edge", "key", 0)
        number = await sessions.add(tx, Session(id="s", proxy="edge", database="d", started_at=0))
        await records.add(tx, [(number, seq, line) for seq, line in enumerate(LINES)], 0)
    async with store.read() as tx:
        found = await records.after(tx, number, after, lines=lines, size=size)
    assert found == [(seq, LINES[seq]) for seq in expected]
    await store.close()
