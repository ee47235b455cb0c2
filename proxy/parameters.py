"""What a session says of itself upstream: the client's startup parameters, and who logs in where, for whom. Pure."""

from proxy import replication
from proxy.contract.grant import Grant
from proxy.wire.startup import StartupMessage

NAME_BYTES = 63
"""What PostgreSQL keeps of `application_name` (NAMEDATALEN)."""
_OURS = (b"user", b"database", b"replication")


def upstream_parameters(
    startup: StartupMessage, grant: Grant, *, user: str, database: str, show_person: bool, settings: bool = True
) -> list[tuple[bytes, bytes]]:
    """The client's parameters byte for byte, but for who logs in where, and ours behind them.

    Without `settings`, of ours none that a pooler would not know (see `proxy.pooled`).
    """
    theirs = _theirs(startup)
    return [
        (b"user", user.encode()),
        *replication.parameters(startup, database),
        *theirs,
        # Behind the client's own: of two, PostgreSQL takes the last.
        *(
            [(b"application_name", _identified(dict(theirs).get(b"application_name", b""), grant))]
            if show_person
            else []
        ),
        *([(b"curfew.person", grant.person.encode()), (b"curfew.grant", grant.id.encode())] if settings else []),
    ]


def asked_for(startup: StartupMessage) -> dict[str, str]:
    """What the client asked for besides who it is and where it wants to, as it is recorded."""
    return {_readable(name): _readable(value) for name, value in _theirs(startup)}


def _theirs(startup: StartupMessage) -> list[tuple[bytes, bytes]]:
    return [
        (name, value)
        for name, value in startup.parameters
        if name not in _OURS and not name.startswith((b"_pq_.", b"curfew."))
    ]


def _readable(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")


def _identified(application: bytes, grant: Grant) -> bytes:
    """What there is room for of the application's name, and who it is; the grant's id is the last to be cut."""
    who = f"{grant.id} {grant.person}".encode()[: NAME_BYTES - 2]
    room = NAME_BYTES - len(who) - 3
    kept = application[: max(room, 0)].decode("utf-8", "ignore").encode()
    return (kept + b" " if kept else b"") + b"[" + who + b"]"
