"""The index for searches, which is in a file of its own now and makes itself anew there, goes out of the books."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0012"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TABLES = ("indexing", "blocks", "postings", "terms", "statements")
TEXTS = (
    "CREATE VIRTUAL TABLE statement_texts USING fts5"
    "(text, content='', columnsize=0, detail='none', tokenize='trigram case_sensitive 1')"
)


def upgrade() -> None:
    """Apply. The room that it took is used for records from here on."""
    op.execute("DROP TABLE statement_texts")
    for table in TABLES:
        op.drop_table(table)


def downgrade() -> None:
    """Take back: an index with nothing in it, which an older service fills by itself."""
    op.create_table(
        "statements",
        sa.Column("id", WHOLE, nullable=False, autoincrement=False),
        sa.Column("session", WHOLE, nullable=False),
        sa.Column("statement", WHOLE),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at", WHOLE, nullable=False),
        sa.Column("class", sa.Text()),
        sa.Column("names", sa.JSON()),
        sa.Column("label", sa.Text()),
        sa.Column("rows", WHOLE),
        sa.Column("duration", WHOLE),
        sa.Column("sqlstate", sa.Text()),
        sa.ForeignKeyConstraint(["session"], ["sessions.number"], name=op.f("fk_statements_session")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_statements")),
    )
    op.create_index("ix_statements_session_statement", "statements", ["session", "statement"])
    op.create_table(
        "terms",
        sa.Column("number", WHOLE, nullable=False, autoincrement=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("statements", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_terms")),
        sa.UniqueConstraint("kind", "name", name=op.f("uq_terms_kind_name")),
    )
    op.create_table(
        "postings",
        sa.Column("term", WHOLE, nullable=False),
        sa.Column("statement", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("term", "statement", name=op.f("pk_postings")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "blocks",
        sa.Column("number", WHOLE, nullable=False, autoincrement=False),
        sa.Column("first_at", WHOLE, nullable=False),
        sa.Column("last_at", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_blocks")),
    )
    op.create_table(
        "indexing",
        sa.Column("one", WHOLE, nullable=False, autoincrement=False),
        sa.Column("next", WHOLE, nullable=False),
        sa.Column("clearing", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_indexing")),
    )
    op.execute("INSERT INTO indexing (one, next, clearing) VALUES (1, 0, false)")
    op.execute(TEXTS)
