"""How a grant's sessions end: what was asked for, and what the approver picked."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. What was granted before ends hard, as it always did."""
    for table in ("requests", "grants"):
        op.add_column(table, sa.Column("end", sa.Text(), nullable=False, server_default="hard"))


def downgrade() -> None:
    """Take back."""
    for table in ("requests", "grants"):
        op.drop_column(table, "end")
