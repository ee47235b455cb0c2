"""Grants that are bound to a client certificate."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    for table in ("requests", "grants"):
        op.add_column(table, sa.Column("certificate", sa.Text(), nullable=True))


def downgrade() -> None:
    """Take back."""
    for table in ("requests", "grants"):
        op.drop_column(table, "certificate")
