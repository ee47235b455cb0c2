"""Journals: where the chain of each one's sessions goes on."""

import sqlalchemy as sa
from alembic import op

revision = "journals"
down_revision = "log"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply. Sessions from before have no places in a journal, so there is nothing to fill in."""
    op.create_table(
        "journals",
        sa.Column("proxy", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("number", WHOLE, nullable=False),
        sa.Column("prev", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["proxy"], ["proxies.name"], name=op.f("fk_journals_proxy")),
        sa.PrimaryKeyConstraint("proxy", "id", name=op.f("pk_journals")),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("journals")
