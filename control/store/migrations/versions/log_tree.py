"""The transparency log: a tree over all records, and its signed heads."""

import sqlalchemy as sa
from alembic import op

from control.evidence.tree import Place, append, edge
from proxy.contract.merkle import leaf_hash

revision = "log"
down_revision = "0011"
branch_labels = None
depends_on = None

AT_ONCE = 4_096


def upgrade() -> None:
    """Apply. Records that are there already become leaves in the order in which they came."""
    op.add_column("records", sa.Column("leaf", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True))
    op.create_table(
        "tiles",
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "number", name="pk_tiles"),
    )
    op.create_table(
        "heads",
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("signed_at", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("origin", "size", name="pk_heads"),
    )
    _fill()
    op.create_index("ix_records_leaf", "records", ["leaf"], unique=True)


def _fill() -> None:
    connection = op.get_bind()
    size, last = 0, -1
    tiles: dict[Place, bytes] = {}
    while True:
        # SQLite's rowid is the order of insertion: nothing was ever deleted here.
        query = sa.text("SELECT rowid, line FROM records WHERE rowid > :last ORDER BY rowid LIMIT :most")
        rows = connection.execute(query, {"last": last, "most": AT_ONCE}).all()
        if not rows:
            return
        changed = append(size, tiles, [leaf_hash(line) for _, line in rows])
        _keep(connection, changed)
        placed = [{"leaf": size + place, "row": row} for place, (row, _) in enumerate(rows)]
        connection.execute(sa.text("UPDATE records SET leaf = :leaf WHERE rowid = :row"), placed)
        size, last = size + len(rows), rows[-1][0]
        tiles = {place: changed.get(place) or tiles[place] for place in edge(size)}


def _keep(connection: sa.Connection, changed: dict[Place, bytes]) -> None:
    rows = [{"level": level, "number": number, "hashes": hashes} for (level, number), hashes in changed.items()]
    connection.execute(sa.text("INSERT OR REPLACE INTO tiles VALUES (:level, :number, :hashes)"), rows)


def downgrade() -> None:
    """Take back."""
    op.drop_index("ix_records_leaf", "records")
    op.drop_table("heads")
    op.drop_table("tiles")
    op.drop_column("records", "leaf")
