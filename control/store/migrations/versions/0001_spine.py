"""The spine: people, requests, grants, keys, proxies, sessions, records."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    _people()
    _requests()
    _grants()
    _keys_and_directives()
    _proxies()
    _sessions()
    _records()


def downgrade() -> None:
    """Take back."""
    for table in (
        "records",
        "faults",
        "sessions",
        "join_tokens",
        "proxy_keys",
        "proxies",
        "directives",
        "signing_keys",
        "grants",
        "requests",
        "api_keys",
        "people",
    ):
        op.drop_table(table)


def _people() -> None:
    """People and their API keys."""
    op.create_table(
        "people",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("full_name", sa.Text(), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("created_at", WHOLE, nullable=False),
        sa.Column("disabled_at", WHOLE, nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_people")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("created_at", WHOLE, nullable=False),
        sa.Column("revoked_at", WHOLE, nullable=True),
        sa.ForeignKeyConstraint(["person"], ["people.name"], name=op.f("fk_api_keys_person")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )
    op.create_index(op.f("ix_api_keys_person"), "api_keys", ["person"])


def _requests() -> None:
    """Requests."""
    op.create_table(
        "requests",
        sa.Column("number", WHOLE, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("databases", sa.JSON(), nullable=False),
        sa.Column("duration_s", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("max_sessions", sa.Integer(), nullable=True),
        sa.Column("addresses", sa.JSON(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", WHOLE, nullable=False),
        sa.Column("pending_until", WHOLE, nullable=False),
        sa.Column("decided_at", WHOLE, nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("grant", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["person"], ["people.name"], name=op.f("fk_requests_person")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_requests")),
        sa.UniqueConstraint("id", name=op.f("uq_requests_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_requests_person"), "requests", ["person"])


def _grants() -> None:
    """Grants."""
    op.create_table(
        "grants",
        sa.Column("number", WHOLE, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("databases", sa.JSON(), nullable=False),
        sa.Column("starts_at", WHOLE, nullable=False),
        sa.Column("expires_at", WHOLE, nullable=False),
        sa.Column("approved_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("max_sessions", sa.Integer(), nullable=True),
        sa.Column("addresses", sa.JSON(), nullable=False),
        sa.Column("revoked_at", WHOLE, nullable=True),
        sa.Column("revoked_by", sa.Text(), nullable=True),
        sa.Column("revoke_reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["person"], ["people.name"], name=op.f("fk_grants_person")),
        sa.ForeignKeyConstraint(["request"], ["requests.id"], name=op.f("fk_grants_request")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_grants")),
        sa.UniqueConstraint("id", name=op.f("uq_grants_id")),
        sa.UniqueConstraint("request", name=op.f("uq_grants_request")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_grants_expires_at"), "grants", ["expires_at"])
    op.create_index(op.f("ix_grants_person"), "grants", ["person"])


def _keys_and_directives() -> None:
    """Signing keys, and what proxies are told."""
    op.create_table(
        "signing_keys",
        sa.Column("kid", sa.Text(), nullable=False),
        sa.Column("x", sa.Text(), nullable=False),
        sa.Column("created_at", WHOLE, nullable=False),
        sa.Column("active_from", WHOLE, nullable=False),
        sa.Column("signed_until", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("kid", name=op.f("pk_signing_keys")),
    )
    op.create_table(
        "directives",
        sa.Column("cursor", WHOLE, autoincrement=True, nullable=False),
        sa.Column("line", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("cursor", name=op.f("pk_directives")),
        sqlite_autoincrement=True,
    )


def _proxies() -> None:
    """Proxies, their keys, the tokens they join with."""
    op.create_table(
        "proxies",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("joined_at", WHOLE, nullable=False),
        sa.Column("last_seen_at", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_proxies")),
    )
    op.create_table(
        "proxy_keys",
        sa.Column("proxy", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("added_at", WHOLE, nullable=False),
        sa.Column("replaced_at", WHOLE, nullable=True),
        sa.ForeignKeyConstraint(["proxy"], ["proxies.name"], name=op.f("fk_proxy_keys_proxy")),
        sa.PrimaryKeyConstraint("proxy", "public_key", name=op.f("pk_proxy_keys")),
    )
    op.create_table(
        "join_tokens",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("proxy", sa.Text(), nullable=True),
        sa.Column("created_at", WHOLE, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_at", WHOLE, nullable=False),
        sa.Column("used_at", WHOLE, nullable=True),
        sa.Column("used_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_join_tokens")),
    )


def _sessions() -> None:
    """Sessions' summaries."""
    op.create_table(
        "sessions",
        sa.Column("number", WHOLE, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("proxy", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=True),
        sa.Column("grant", sa.Text(), nullable=True),
        sa.Column("target", sa.Text(), nullable=True),
        sa.Column("database", sa.Text(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=True),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("application_name", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("started_at", WHOLE, nullable=False),
        sa.Column("ended_at", WHOLE, nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("statements", WHOLE, nullable=False),
        sa.Column("bytes_in", WHOLE, nullable=False),
        sa.Column("bytes_out", WHOLE, nullable=False),
        sa.Column("stop_ns", WHOLE, nullable=True),
        sa.Column("records", WHOLE, nullable=False),
        sa.Column("head", sa.Text(), nullable=False),
        sa.Column("faults", WHOLE, nullable=False),
        sa.ForeignKeyConstraint(["proxy"], ["proxies.name"], name=op.f("fk_sessions_proxy")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_sessions")),
        sa.UniqueConstraint("id", name=op.f("uq_sessions_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_sessions_grant"), "sessions", ["grant"])
    op.create_index(op.f("ix_sessions_person"), "sessions", ["person"])
    op.create_index(op.f("ix_sessions_target"), "sessions", ["target"])


def _records() -> None:
    """Records, and the lines that are none."""
    op.create_table(
        "records",
        sa.Column("session", WHOLE, nullable=False),
        sa.Column("seq", WHOLE, nullable=False),
        sa.Column("line", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["session"], ["sessions.number"], name=op.f("fk_records_session")),
        sa.PrimaryKeyConstraint("session", "seq", name=op.f("pk_records")),
    )
    op.create_table(
        "faults",
        sa.Column("number", WHOLE, autoincrement=True, nullable=False),
        sa.Column("at", WHOLE, nullable=False),
        sa.Column("proxy", sa.Text(), nullable=False),
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("seq", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("line", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["proxy"], ["proxies.name"], name=op.f("fk_faults_proxy")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_faults")),
        sa.UniqueConstraint("proxy", "session", "kind", "digest", name=op.f("uq_faults_proxy_session_kind_digest")),
        sqlite_autoincrement=True,
    )
