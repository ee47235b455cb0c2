"""What is asked of PostgreSQL about accounts: the roles, their backends, what they own, and how they are ended.

Owns the statements and what their answers mean, on PostgreSQL 14 and newer; 16 made memberships a matter of ADMIN,
INHERIT and SET (https://www.postgresql.org/docs/16/sql-grant.html). Keeps no state, and leaves turns, transactions and
errors to its callers (`proxy.account_making`, `proxy.account_ending`). Every name is qualified and quoted.
"""

from dataclasses import dataclass

from proxy.account_names import PREFIX, Mark, identifier, literal, mark_text, read_mark, timestamp
from proxy.account_reach import ask
from proxy.query import Connection

MOST_NAMED = 100
"""Objects that are named in the log, of each database."""

_ROLE = """
SELECT oid, rolcanlogin, rolsuper, rolvaliduntil, pg_catalog.shobj_description(oid, 'pg_authid'),
       pg_catalog.current_setting('server_version_num')
FROM pg_catalog.pg_roles WHERE rolname = $1
"""
_MARKED = """
SELECT rolname, pg_catalog.shobj_description(oid, 'pg_authid') FROM pg_catalog.pg_roles
WHERE pg_catalog.starts_with(rolname, $1) AND pg_catalog.shobj_description(oid, 'pg_authid') IS NOT NULL
"""
_BACKENDS = """
SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity WHERE usesysid = $1::pg_catalog.oid
"""
_TERMINATE = """
SELECT pg_catalog.count(*) FILTER (WHERE pg_catalog.pg_terminate_backend(pid)), pg_catalog.count(*)
FROM pg_catalog.pg_stat_activity WHERE usesysid = $1::pg_catalog.oid
"""
_MEMBERS = """
SELECT member.rolname FROM pg_catalog.pg_auth_members AS membership
     JOIN pg_catalog.pg_roles AS member ON member.oid = membership.member
WHERE membership.roleid = $1::pg_catalog.oid AND member.rolname <> CURRENT_USER
"""
_PREPARED = """
SELECT prepared.gid, prepared.database FROM pg_catalog.pg_prepared_xacts AS prepared
WHERE prepared.owner = $1 ORDER BY prepared.prepared
"""
_DATABASES = """
SELECT DISTINCT base.datname FROM pg_catalog.pg_shdepend AS dependency
     JOIN pg_catalog.pg_database AS base ON base.oid = dependency.dbid
WHERE dependency.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND dependency.refobjid = $1::pg_catalog.oid
"""
_OWNED = """
SELECT pg_catalog.pg_describe_object(dependency.classid, dependency.objid, dependency.objsubid)
FROM pg_catalog.pg_shdepend AS dependency
WHERE dependency.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND dependency.refobjid = $1::pg_catalog.oid
      AND dependency.deptype = 'o'
      AND (dependency.dbid = 0 OR dependency.dbid = (SELECT base.oid FROM pg_catalog.pg_database AS base
                                                     WHERE base.datname = pg_catalog.current_database()))
LIMIT $2::pg_catalog.int4
"""
_OPTIONS_SINCE = 160_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A role as PostgreSQL has it."""

    name: str
    oid: str
    can_login: bool
    is_superuser: bool
    valid_until: str | None
    mark: Mark | None
    version: int
    """The server's, as server_version_num."""


async def find(connection: Connection, name: str) -> Role | None:
    """The role `name`, None where there is none."""
    rows = await ask(connection, _ROLE, name)
    if not rows:
        return None
    oid, can_login, is_superuser, valid_until, comment, version = rows[0]
    return Role(
        name=name,
        oid=oid or "0",
        can_login=can_login == "t",
        is_superuser=is_superuser == "t",
        valid_until=valid_until,
        mark=read_mark(comment),
        version=int(version or 0),
    )


async def marked(connection: Connection) -> list[tuple[str, Mark]]:
    """All accounts that there are."""
    rows = await ask(connection, _MARKED, PREFIX)
    read = [(name, read_mark(comment)) for name, comment in rows]
    return [(name, mark) for name, mark in read if name is not None and mark is not None]


async def version(connection: Connection) -> int:
    """The server's version, as server_version_num."""
    ((number,),) = await ask(connection, "SELECT pg_catalog.current_setting('server_version_num')")
    return int(number or 0)


# --- making


async def create(connection: Connection, name: str, mark: Mark, verifier: str | None) -> None:
    """Make the role; with `verifier` it can log in. NOINHERIT would make its memberships count for nothing."""
    login = f"LOGIN PASSWORD {literal(verifier)}" if verifier is not None else "NOLOGIN"
    attributes = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION INHERIT"
    await ask(
        connection, f"CREATE ROLE {identifier(name)} {login} {attributes} VALID UNTIL {literal(timestamp(mark.until))}"
    )
    await describe(connection, name, mark)


async def describe(connection: Connection, name: str, mark: Mark) -> None:
    """Write the mark."""
    await ask(connection, f"COMMENT ON ROLE {identifier(name)} IS {literal(mark_text(mark))}")


async def let_in(connection: Connection, name: str, mark: Mark, verifier: str | None) -> None:
    """Have an account that is there be as `create` would make it."""
    login = f"LOGIN PASSWORD {literal(verifier)}" if verifier is not None else "NOLOGIN"
    await ask(connection, f"ALTER ROLE {identifier(name)} {login} VALID UNTIL {literal(timestamp(mark.until))}")


async def enrol(connection: Connection, name: str, role: str) -> None:
    """Make the account a member of `role`."""
    await ask(connection, f"GRANT {identifier(role)} TO {identifier(name)}")


async def move_end(connection: Connection, name: str, mark: Mark) -> None:
    """Say another end, the one in `mark`."""
    await move_role_end(connection, name, timestamp(mark.until))
    await describe(connection, name, mark)


async def move_role_end(connection: Connection, name: str, until: str) -> None:
    """Say until when a role's password counts."""
    await ask(connection, f"ALTER ROLE {identifier(name)} VALID UNTIL {literal(until)}")


async def elevate(connection: Connection, person: str, account: str, version: int) -> None:
    """Make the person's own role a member of the account, with nothing to hand on."""
    options = " WITH INHERIT TRUE, SET TRUE" if version >= _OPTIONS_SINCE else ""
    await ask(connection, f"GRANT {identifier(account)} TO {identifier(person)}{options}")


async def set_password(connection: Connection, person: str, verifier: str | None, until: str) -> None:
    """Give the person's own role a password, or take it away, and say until when."""
    secret = "NULL" if verifier is None else literal(verifier)
    await ask(connection, f"ALTER ROLE {identifier(person)} PASSWORD {secret} VALID UNTIL {literal(until)}")


# --- ending


async def may_login(connection: Connection, name: str, *, allowed: bool) -> None:
    """Let the account log in, or do so no more."""
    await ask(connection, f"ALTER ROLE {identifier(name)} {'LOGIN' if allowed else 'NOLOGIN'}")


async def backends(connection: Connection, oid: str) -> int:
    """How many backends have logged in as the role."""
    ((count,),) = await ask(connection, _BACKENDS, oid)
    return int(count or 0)


async def terminate(connection: Connection, oid: str) -> int:
    """Signal all backends of the role, also where the role is gone already; returns how many there are."""
    ((_, count),) = await ask(connection, _TERMINATE, oid)
    return int(count or 0)


async def expel(connection: Connection, role: Role) -> list[str]:
    """Take the account's members out of it; their names. What somebody else has granted goes with the role."""
    members = [name for (name,) in await ask(connection, _MEMBERS, role.oid) if name is not None]
    for member in members:
        await ask(connection, f"REVOKE {identifier(role.name)} FROM {identifier(member)} CASCADE")
    return members


async def join(connection: Connection, role: Role) -> None:
    """Make the keeper a member, so that it may give away what the account owns. The drop ends it."""
    options = " WITH INHERIT TRUE, SET TRUE" if role.version >= _OPTIONS_SINCE else ""
    await ask(connection, f"GRANT {identifier(role.name)} TO CURRENT_USER{options}")


async def prepared(connection: Connection, name: str) -> list[tuple[str, str]]:
    """Two-phase transactions that the account has left, each with its database."""
    rows = await ask(connection, _PREPARED, name)
    return [(gid, database) for gid, database in rows if gid is not None and database is not None]


async def roll_back_prepared(connection: Connection, name: str, gid: str) -> None:
    """Roll one back. Its owner may, and in its own database alone."""
    await ask(connection, f"SET ROLE {identifier(name)}")
    try:
        await ask(connection, f"ROLLBACK PREPARED {literal(gid)}")
    finally:
        if connection.lost is None:
            await ask(connection, "RESET ROLE")


async def databases(connection: Connection, oid: str) -> list[str]:
    """Where the role owns something, or has been given something."""
    return sorted(name for (name,) in await ask(connection, _DATABASES, oid) if name is not None)


async def owned(connection: Connection, oid: str) -> list[str]:
    """What the role owns in this database and server-wide, in PostgreSQL's words; MOST_NAMED of them."""
    rows = await ask(connection, _OWNED, oid, str(MOST_NAMED))
    return [text for (text,) in rows if text is not None]


async def hand_over(connection: Connection, name: str, to: str) -> None:
    """Give what the account owns here to `to`, the keeper where it is empty, and take back what it was given."""
    await ask(connection, f"REASSIGN OWNED BY {identifier(name)} TO {identifier(to) if to else 'CURRENT_USER'}")
    await ask(connection, f"DROP OWNED BY {identifier(name)}")


async def drop(connection: Connection, name: str) -> None:
    """Drop the role, and every membership with it."""
    await ask(connection, f"DROP ROLE {identifier(name)}")
