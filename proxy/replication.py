"""Replication connections: where one leads, whether it is allowed, and what it says upstream.

PostgreSQL calls them walsenders: they speak the simple protocol, and a grammar of their own that streams the
write-ahead log or a copy of the whole server. Whichever database one names, it may send BASE_BACKUP, so both kinds are
held to the same rule: the access profile must allow them, and the grant must be for all databases. Pure; the relay
knows nothing of them, because COPY BOTH is a COPY to it.
"""

from proxy.contract.grant import Grant
from proxy.contract.settings import AccessProfile
from proxy.errors import ReplicationNotAllowed
from proxy.wire.startup import StartupMessage

PLACEHOLDER = b"replication"
"""The database that PostgreSQL's own tools name for physical replication, whatever they were told (streamutil.c)."""
_VALUES = {"physical": b"true", "logical": b"database"}


def destination(startup: StartupMessage, grant: Grant) -> tuple[str, str | None]:
    """The target and the database that a connection names: "" for the target's default, None for no database at all.

    Physical replication is in no database. Where it names no target either, it leads to the grant's.
    """
    target, _, database = startup.database.partition("/")
    if startup.replication != "physical":
        return target, database
    named = dict(startup.parameters).get(b"database")
    return grant.target if named in (None, b"", PLACEHOLDER) else target, None


def allowed(grant: Grant, profile: AccessProfile) -> bool:
    """Whether a replication connection may be made. Both must say so."""
    return profile.replication == "all" and grant.covers_server


def not_allowed(grant: Grant, profile: AccessProfile) -> ReplicationNotAllowed:
    """What to tell the person whose replication connection `grant` or `profile` does not allow."""
    if profile.replication == "none":
        return ReplicationNotAllowed(
            detail=f'Access profile "{grant.profile}" of {grant.target} does not allow them.',
            hint=f'An operator can: replication = "all" in [targets.{grant.target}.access.{grant.profile}].',
            grant=grant.id,
        )
    return ReplicationNotAllowed(
        detail=f"They read the whole server, and grant {grant.id} is not for all databases.",
        hint=f"Ask for all: curfew request {grant.target} {grant.profile} --database '*' --for 1h --reason '...'",
        grant=grant.id,
    )


def parameters(startup: StartupMessage, database: str) -> list[tuple[bytes, bytes]]:
    """The startup parameters that say where a session goes: in PostgreSQL's plainest words, not in the client's own."""
    if startup.replication is None:
        return [(b"database", database.encode())]
    name = PLACEHOLDER if startup.replication == "physical" else database.encode()
    return [(b"database", name), (b"replication", _VALUES[startup.replication])]
