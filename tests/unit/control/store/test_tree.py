"""The log's tree in the database: it grows with the records, in the same transaction."""

import shutil
import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory

from control.evidence.tree import MissingTileError
from control.store import tree
from control.store.engine import Store, open_store
from control.store.migrate import _config, migrate
from proxy.contract import merkle
from tests.unit.control.desk import Desk, Edge

LEAVES = [merkle.leaf_hash(b"%d" % number) for number in range(700)]


@pytest.fixture
async def store(tmp_path: Path, template: Path) -> AsyncIterator[Store]:
    """An empty one."""
    shutil.copy(template, tmp_path / "db")
    store = open_store(tmp_path / "db")
    yield store
    await store.close()


async def test_a_tree_grows_and_is_asked(store: Store) -> None:
    """By batches; a question sees the one state that its transaction sees."""
    before = 0
    for size in (1, 255, 256, 300, 700):
        async with store.write() as tx:
            assert await tree.size(tx) == before
            await tree.grow(tx, before, LEAVES[before:size])
        before = size
    async with store.read() as tx:
        assert await tree.size(tx) == 700
        for size in (1, 300, 700):
            root = await tree.ask(tx, partial(merkle.root, size))
            proof = await tree.ask(tx, partial(merkle.inclusion, size - 1, size))
            merkle.verify_inclusion(b"%d" % (size - 1), size - 1, size, proof, root)


async def test_a_tile_that_is_gone(store: Store, tmp_path: Path) -> None:
    """Is said to be: no proof is made up."""
    async with store.write() as tx:
        await tree.grow(tx, 0, LEAVES)
    with sqlite3.connect(tmp_path / "db") as books:
        books.execute("DELETE FROM tiles WHERE level = 0 AND number = 1")
    books.close()
    async with store.read() as tx:
        with pytest.raises(MissingTileError):
            await tree.ask(tx, partial(merkle.inclusion, 300, 700))


async def test_records_become_leaves(desk: Desk, edge: Edge) -> None:
    """In the order of ingest, each once: what is sent again is not."""
    one, two = edge.session("ses_1"), edge.session("ses_2", statements=200)
    await edge.ship(*one[:2])
    await edge.ship(*one, *two)
    lines = [*one, *two]
    async with desk.services.store.read() as tx:
        assert await tree.size(tx) == len(lines)
        root = await tree.ask(tx, partial(merkle.root, len(lines)))
        for session, seq, index in (("ses_1", 0, 0), ("ses_1", 3, 3), ("ses_2", 0, 4), ("ses_2", 401, 405)):
            assert await tree.leaf_of(tx, session, seq) == index
            proof = await tree.ask(tx, partial(merkle.inclusion, index, len(lines)))
            merkle.verify_inclusion(lines[index], index, len(lines), proof, root)
        assert await tree.leaf_of(tx, "ses_1", 4) is None


async def test_a_fault_is_no_leaf(desk: Desk, edge: Edge) -> None:
    """It is kept, but it is not a record."""
    lines = edge.session("ses_1")
    assert (await edge.ship(lines[0], lines[2])).status_code == 409
    async with desk.services.store.read() as tx:
        assert await tree.size(tx) == 1


async def test_an_upgrade_makes_leaves_of_what_is_there(desk: Desk, edge: Edge) -> None:
    """In the order in which it came: the migration makes the very tree that ingest made."""
    for number in range(3):
        await edge.ship(*edge.session(f"ses_{2 - number}", statements=100))
    await desk.services.store.close()
    path = desk.services.settings.database
    kept = contents(path)
    assert len(kept[1]) == 606
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool)
    with engine.begin() as connection:
        config = _config(connection)
        before = ScriptDirectory.from_config(config).get_revision("0010").down_revision
        assert isinstance(before, str)
        command.downgrade(config, before)
    engine.dispose()
    migrate(path)
    assert contents(path) == kept


def contents(path: Path) -> tuple[list[object], list[object]]:
    """The tiles, and each record's leaf."""
    with sqlite3.connect(path) as books:
        tiles = books.execute("SELECT * FROM tiles ORDER BY level, number").fetchall()
        leaves = books.execute("SELECT session, seq, leaf FROM records ORDER BY leaf").fetchall()
    books.close()
    return tiles, leaves
