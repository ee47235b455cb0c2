"""Reapings: the sessions of a proxy that is gone, which others are to end."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    for name in ("reaped_by", "reaped_in"):
        op.add_column("sessions", sa.Column(name, sa.Text(), nullable=True))
    op.create_index("ix_sessions_proxy_state", "sessions", ["proxy", "state"])
    op.create_table(
        "reapings",
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("proxy", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=True),
        sa.Column("decided_at", WHOLE, nullable=False),
        sa.Column("tries", WHOLE, nullable=False),
        sa.Column("next_at", WHOLE, nullable=False),
        sa.ForeignKeyConstraint(["session"], ["sessions.id"], name=op.f("fk_reapings_session")),
        sa.PrimaryKeyConstraint("session", name=op.f("pk_reapings")),
    )
    op.create_index(op.f("ix_reapings_proxy"), "reapings", ["proxy"])


def downgrade() -> None:
    """Take back."""
    op.drop_table("reapings")
    op.drop_index("ix_sessions_proxy_state", "sessions")
    for name in ("reaped_in", "reaped_by"):
        op.drop_column("sessions", name)
