"""Requests that extend a grant, and whose decision moved its end last."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.add_column("requests", sa.Column("extends", sa.Text(), nullable=True))
    op.create_index(op.f("ix_requests_extends"), "requests", ["extends"])
    op.add_column("grants", sa.Column("extended_at", WHOLE, nullable=True))
    op.add_column("grants", sa.Column("extended_by", sa.Text(), nullable=True))


def downgrade() -> None:
    """Take back."""
    op.drop_column("grants", "extended_by")
    op.drop_column("grants", "extended_at")
    op.drop_index(op.f("ix_requests_extends"), "requests")
    op.drop_column("requests", "extends")
