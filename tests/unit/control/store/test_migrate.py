"""The migrations make what the tables say."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from control.store.migrate import _config, migrate, newest, revision
from control.store.tables import metadata


def test_the_schema_is_the_tables(tmp_path: Path) -> None:
    """Nothing to add and nothing to drop: a table that is changed without a migration fails here."""
    path = tmp_path / "db"
    migrate(path)
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_migrating_again_changes_nothing(tmp_path: Path) -> None:
    """Every start may do it; the file is its owner's alone."""
    path = tmp_path / "db"
    migrate(path)
    assert revision(path) == newest()
    before = path.read_bytes()
    migrate(path)
    assert path.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_way_back(tmp_path: Path) -> None:
    """Down to nothing, and up again."""
    path = tmp_path / "db"
    migrate(path)
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool)
    with engine.begin() as connection:
        command.downgrade(_config(connection), "base")
    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == ["alembic_version"]
    engine.dispose()
    migrate(path)
    assert revision(path) == newest()
