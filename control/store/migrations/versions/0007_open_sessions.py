"""Finding the few open sessions among all that there ever were."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_index(op.f("ix_sessions_state"), "sessions", ["state"])


def downgrade() -> None:
    """Take back."""
    op.drop_index(op.f("ix_sessions_state"), "sessions")
