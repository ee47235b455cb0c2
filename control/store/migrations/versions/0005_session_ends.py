"""When a session was decided to end, when it was gone, who decided; when its access ends, and what runs in it."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
COLUMNS: dict[str, sa.types.TypeEngine[Any]] = {
    "expires_at": WHOLE,
    "decided_at": WHOLE,
    "gone_at": WHOLE,
    "ended_by": sa.Text(),
    "running": WHOLE,
    "running_since": WHOLE,
    "running_command": sa.Text(),
}


def upgrade() -> None:
    """Apply. What sessions of before would say is in their records."""
    for name, kind in COLUMNS.items():
        op.add_column("sessions", sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    """Take back."""
    for name in reversed(COLUMNS):
        op.drop_column("sessions", name)
