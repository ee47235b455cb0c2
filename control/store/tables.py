"""The tables. Times are nanoseconds since the epoch; lists are JSON texts; a `number` is the order of arrival."""

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Whole = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""64 bits everywhere. SQLite counts up by itself only what is called INTEGER."""


def _number() -> sa.Column[int]:
    return sa.Column("number", Whole, primary_key=True, autoincrement=True)


people = sa.Table(
    "people",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("full_name", sa.Text, nullable=False),
    sa.Column("roles", sa.JSON, nullable=False),
    sa.Column("created_at", Whole, nullable=False),
    sa.Column("disabled_at", Whole),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("person", sa.ForeignKey("people.name"), nullable=False, index=True),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("created_at", Whole, nullable=False),
    sa.Column("revoked_at", Whole),
)

requests = sa.Table(
    "requests",
    metadata,
    _number(),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("person", sa.ForeignKey("people.name"), nullable=False, index=True),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("profile", sa.Text, nullable=False),
    sa.Column("databases", sa.JSON, nullable=False),
    sa.Column("duration_s", sa.Integer, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("max_sessions", sa.Integer),
    sa.Column("addresses", sa.JSON, nullable=False),
    sa.Column("certificate", sa.Text),
    sa.Column("end", sa.Text, nullable=False, server_default="hard"),
    sa.Column("extends", sa.Text, index=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("created_at", Whole, nullable=False),
    sa.Column("pending_until", Whole, nullable=False),
    sa.Column("decided_at", Whole),
    sa.Column("decided_by", sa.Text),
    sa.Column("comment", sa.Text),
    sa.Column("grant", sa.Text),
    sqlite_autoincrement=True,
)

grants = sa.Table(
    "grants",
    metadata,
    _number(),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("request", sa.ForeignKey("requests.id"), nullable=False, unique=True),
    sa.Column("person", sa.ForeignKey("people.name"), nullable=False, index=True),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("profile", sa.Text, nullable=False),
    sa.Column("databases", sa.JSON, nullable=False),
    sa.Column("starts_at", Whole, nullable=False),
    sa.Column("expires_at", Whole, nullable=False, index=True),
    sa.Column("approved_by", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("max_sessions", sa.Integer),
    sa.Column("addresses", sa.JSON, nullable=False),
    sa.Column("certificate", sa.Text),
    sa.Column("end", sa.Text, nullable=False, server_default="hard"),
    sa.Column("extended_at", Whole),
    sa.Column("extended_by", sa.Text),
    sa.Column("revoked_at", Whole),
    sa.Column("revoked_by", sa.Text),
    sa.Column("revoke_reason", sa.Text),
    sqlite_autoincrement=True,
)

locks = sa.Table(
    "locks",
    metadata,
    _number(),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    # Names and no references: a lock may be meant for somebody or something that is yet to come.
    sa.Column("person", sa.Text),
    sa.Column("target", sa.Text),
    sa.Column("profile", sa.Text),
    sa.Column("proxy", sa.Text),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("created_at", Whole, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("until", Whole),
    sa.Column("lifted_at", Whole),
    sa.Column("lifted_by", sa.Text),
    sa.Column("lift_reason", sa.Text),
    sqlite_autoincrement=True,
)

signing_keys = sa.Table(
    "signing_keys",
    metadata,
    sa.Column("kid", sa.Text, primary_key=True),
    sa.Column("x", sa.Text, nullable=False),
    sa.Column("created_at", Whole, nullable=False),
    sa.Column("active_from", Whole, nullable=False),
    sa.Column("signed_until", Whole, nullable=False),
)

join_tokens = sa.Table(
    "join_tokens",
    metadata,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("proxy", sa.Text),
    sa.Column("created_at", Whole, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("expires_at", Whole, nullable=False),
    sa.Column("used_at", Whole),
    sa.Column("used_by", sa.Text),
)

proxies = sa.Table(
    "proxies",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("joined_at", Whole, nullable=False),
    sa.Column("last_seen_at", Whole, nullable=False),
)

proxy_keys = sa.Table(
    "proxy_keys",
    metadata,
    sa.Column("proxy", sa.ForeignKey("proxies.name"), primary_key=True),
    sa.Column("public_key", sa.Text, primary_key=True),
    sa.Column("added_at", Whole, nullable=False),
    sa.Column("replaced_at", Whole),
)

directives = sa.Table(
    "directives",
    metadata,
    sa.Column("cursor", Whole, primary_key=True, autoincrement=True),
    sa.Column("line", sa.LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)

sessions = sa.Table(
    "sessions",
    metadata,
    _number(),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("proxy", sa.ForeignKey("proxies.name"), nullable=False),
    sa.Column("person", sa.Text, index=True),
    sa.Column("grant", sa.Text, index=True),
    sa.Column("target", sa.Text, index=True),
    sa.Column("database", sa.Text, nullable=False),
    sa.Column("profile", sa.Text),
    sa.Column("address", sa.Text),
    sa.Column("application_name", sa.Text),
    sa.Column("state", sa.Text, nullable=False, index=True),
    sa.Column("started_at", Whole, nullable=False),
    sa.Column("expires_at", Whole),
    sa.Column("ended_at", Whole),
    sa.Column("end_reason", sa.Text),
    sa.Column("ended_by", sa.Text),
    sa.Column("decided_at", Whole),
    sa.Column("gone_at", Whole),
    sa.Column("outcome", sa.Text),
    sa.Column("running", Whole),
    sa.Column("running_since", Whole),
    sa.Column("running_command", sa.Text),
    sa.Column("statements", Whole, nullable=False),
    sa.Column("bytes_in", Whole, nullable=False),
    sa.Column("bytes_out", Whole, nullable=False),
    sa.Column("stop_ns", Whole),
    sa.Column("records", Whole, nullable=False),
    sa.Column("head", sa.Text, nullable=False),
    sa.Column("faults", Whole, nullable=False),
    sa.Column("reaped_by", sa.Text),
    sa.Column("reaped_in", sa.Text),
    sa.Index("ix_sessions_proxy_state", "proxy", "state"),
    sqlite_autoincrement=True,
)

reapings = sa.Table(
    "reapings",
    metadata,
    sa.Column("session", sa.ForeignKey("sessions.id"), primary_key=True),
    sa.Column("proxy", sa.Text, nullable=False, index=True),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("by", sa.Text),
    sa.Column("decided_at", Whole, nullable=False),
    sa.Column("tries", Whole, nullable=False),
    sa.Column("next_at", Whole, nullable=False),
)

places = sa.Table(
    "places",
    metadata,
    _number(),
    sa.Column("session", sa.Text, nullable=False, unique=True),
    sa.Column("grant", sa.ForeignKey("grants.id"), nullable=False, index=True),
    sa.Column("proxy", sa.ForeignKey("proxies.name"), nullable=False, index=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("taken_at", Whole, nullable=False),
    sqlite_autoincrement=True,
)

journals = sa.Table(
    "journals",
    metadata,
    sa.Column("proxy", sa.ForeignKey("proxies.name"), primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("number", Whole, nullable=False),
    sa.Column("prev", sa.Text, nullable=False),
)
"""Where the chain of each journal's sessions goes on (`control.evidence.journals`)."""

records = sa.Table(
    "records",
    metadata,
    sa.Column("session", sa.ForeignKey("sessions.number"), primary_key=True),
    sa.Column("seq", Whole, primary_key=True),
    sa.Column("line", sa.LargeBinary, nullable=False),
    # Its place in the log. Every record has one: SQLite cannot add a column that says so.
    sa.Column("leaf", Whole),
    sa.Index("ix_records_leaf", "leaf", unique=True),
)

tiles = sa.Table(
    "tiles",
    metadata,
    sa.Column("level", sa.Integer, primary_key=True),
    sa.Column("number", Whole, primary_key=True),
    sa.Column("hashes", sa.LargeBinary, nullable=False),
)

heads = sa.Table(
    "heads",
    metadata,
    sa.Column("origin", sa.Text, primary_key=True),
    sa.Column("size", Whole, primary_key=True),
    sa.Column("root", sa.LargeBinary, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("signed_at", Whole, nullable=False),
)

faults = sa.Table(
    "faults",
    metadata,
    _number(),
    sa.Column("at", Whole, nullable=False),
    sa.Column("proxy", sa.ForeignKey("proxies.name"), nullable=False),
    sa.Column("session", sa.Text, nullable=False),
    sa.Column("seq", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("line", sa.LargeBinary, nullable=False),
    # A proxy that tries again and again reports one fault, not one each time.
    sa.UniqueConstraint("proxy", "session", "kind", "digest"),
    sqlite_autoincrement=True,
)
