"""Places: the sessions of grants that allow so many at once."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0007"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply. Sessions that are open have their places from here on; their ends give them back."""
    op.create_table(
        "places",
        sa.Column("number", WHOLE, autoincrement=True, nullable=False),
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("grant", sa.Text(), nullable=False),
        sa.Column("proxy", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("taken_at", WHOLE, nullable=False),
        sa.ForeignKeyConstraint(["grant"], ["grants.id"], name=op.f("fk_places_grant")),
        sa.ForeignKeyConstraint(["proxy"], ["proxies.name"], name=op.f("fk_places_proxy")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_places")),
        sa.UniqueConstraint("session", name=op.f("uq_places_session")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_places_grant"), "places", ["grant"])
    op.create_index(op.f("ix_places_proxy"), "places", ["proxy"])
    op.execute(
        'INSERT INTO places (session, "grant", proxy, holder, run, taken_at) '
        "SELECT s.id, s.\"grant\", s.proxy, '', '', s.started_at FROM sessions s JOIN grants g ON g.id = s.\"grant\" "
        "WHERE s.state = 'open' AND g.max_sessions IS NOT NULL"
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("places")
