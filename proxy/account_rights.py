"""What an account may do: the presets, and the profile's own statements, each with the SQL that gives it.

Server-wide rights are memberships, given once; rights inside a database are given when the account first enters it.
Every GRANT is run as the keeper, so it can give no more than the keeper may give (deploy/keeper-accounts.sql).
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from proxy.account_names import identifier, literal
from proxy.account_reach import ask
from proxy.contract.settings import Account
from proxy.query import Connection, array

SETUP_BYTES = 1_048_576

_EVERYWHERE: Mapping[str, Sequence[tuple[int, str]]] = {
    "readonly": [(14, "pg_read_all_data")],
    "readwrite": [(14, "pg_read_all_data"), (14, "pg_write_all_data")],
    "admin": [
        (14, "pg_read_all_data"),
        (14, "pg_write_all_data"),
        (14, "pg_monitor"),
        (15, "pg_checkpoint"),
        (17, "pg_maintain"),
    ],
}
"""PostgreSQL's own roles by preset, each with the version that brought it. Without pg_signal_backend: who has it can
end the keeper's connections, and so put off the end of a session."""
_OWNING = ("ddl", "admin")
_PLACES = re.compile(r"\{(?:account|person|grant)\}")
_SEQUENCES = frozenset({"INSERT", "UPDATE"})

_OWNERS = """
SELECT wanted.name, owner.rolname, owner.rolsuper
FROM pg_catalog.unnest($1::pg_catalog.text[]) AS wanted (name)
     LEFT JOIN pg_catalog.pg_namespace AS schema ON schema.nspname = wanted.name
     LEFT JOIN pg_catalog.pg_roles AS owner ON owner.oid = schema.nspowner
"""
_DATABASE_OWNER = """
SELECT owner.rolname, owner.rolsuper FROM pg_catalog.pg_database AS base
     JOIN pg_catalog.pg_roles AS owner ON owner.oid = base.datdba
WHERE base.datname = pg_catalog.current_database()
"""
_LACKING = """
SELECT schema.nspname || '.' || relation.relname || ': ' || privilege
FROM pg_catalog.pg_class AS relation
     JOIN pg_catalog.pg_namespace AS schema ON schema.oid = relation.relnamespace
     CROSS JOIN pg_catalog.unnest($4::pg_catalog.text[]) AS privilege
WHERE relation.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND (schema.nspname = ANY ($2::pg_catalog.text[])
           OR schema.nspname || '.' || relation.relname = ANY ($3::pg_catalog.text[]))
      AND NOT pg_catalog.has_table_privilege($1, relation.oid, privilege)
LIMIT 1
"""
_OWNED_SEQUENCES = """
SELECT DISTINCT pg_catalog.format('%I.%I', schema.nspname, sequence.relname)
FROM pg_catalog.pg_depend AS depends
     JOIN pg_catalog.pg_class AS sequence ON sequence.oid = depends.objid AND sequence.relkind = 'S'
     JOIN pg_catalog.pg_namespace AS schema ON schema.oid = sequence.relnamespace
     JOIN pg_catalog.pg_class AS owner ON owner.oid = depends.refobjid
     JOIN pg_catalog.pg_namespace AS place ON place.oid = owner.relnamespace
WHERE depends.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
      AND depends.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND depends.deptype = 'a'
      AND place.nspname || '.' || owner.relname = ANY ($1::pg_catalog.text[])
"""
"""Of serial columns. Those of identity columns (deptype i) ask for no right."""


class RightsError(Exception):
    """The profile's rights cannot be given in this database. Names what and why, for operators."""


def everywhere(account: Account, version: int) -> list[str]:
    """The roles that the account is made a member of, whatever the database; `version` is PostgreSQL's major one."""
    shipped = [role for since, role in _EVERYWHERE.get(account.preset, ()) if version >= since]
    return [*shipped, *(role for role in account.member_of if role not in shipped)]


def is_by_database(account: Account) -> bool:
    """Whether there is something to give in each database."""
    return account.preset in ("schema", *_OWNING) or bool(account.setup_sql or account.setup_file)


async def give(connection: Connection, account: Account, role: str, *, person: str, grant: str) -> None:
    """Give `role` its rights in the connection's database, inside the caller's transaction.

    Raises RightsError, QueryError, OSError.
    """
    if account.preset in _OWNING:
        for owner in await _owners(connection, account.schemas):
            await ask(connection, f"GRANT {identifier(owner)} TO {identifier(role)}")
    if account.preset == "schema":
        await _give_tables(connection, account, role)
    spelled = {"{account}": identifier(role), "{person}": literal(person), "{grant}": literal(grant)}
    for script in _scripts(account):
        # In one pass: what is put in for one may look like another. Inside DO, PostgreSQL itself refuses what would end
        # the transaction or speak with the client.
        text = _PLACES.sub(lambda place: spelled[place[0]], script)
        body = f"BEGIN EXECUTE {literal(text)}; END"
        await ask(connection, f"DO {literal(body)}")


async def _owners(connection: Connection, schemas: Sequence[str]) -> list[str]:
    """Whose rights `ddl` means: the owners of these schemas, or of the database."""
    ((base, superuser),) = await ask(connection, _DATABASE_OWNER)
    found: list[tuple[str | None, str | None, str | None]] = [("the database", base, superuser)]
    if schemas:
        rows = await ask(connection, _OWNERS, array(schemas))
        # pg_database_owner takes no members; its one member is the database's owner.
        found = [
            (name, *((base, superuser) if owner == "pg_database_owner" else (owner, su))) for name, owner, su in rows
        ]
    for name, owner, is_superuser in found:
        if owner is None:
            raise RightsError(f"there is no schema {name!r}")
        if is_superuser == "t":
            raise RightsError(
                f"{name} belongs to {owner}, a superuser: give it to a role of its own, for others to join"
            )
    return sorted({owner for _, owner, _ in found if owner is not None})


async def _give_tables(connection: Connection, account: Account, role: str) -> None:
    to, rights = identifier(role), ", ".join(account.privileges)
    named = [(schema, table) for schema, _, table in (text.partition(".") for text in account.tables)]
    for schema in sorted({*account.schemas, *(schema for schema, _ in named)}):
        await ask(connection, f"GRANT USAGE ON SCHEMA {identifier(schema)} TO {to}")
    for schema in account.schemas:
        await ask(connection, f"GRANT {rights} ON ALL TABLES IN SCHEMA {identifier(schema)} TO {to}")
        if _SEQUENCES & set(account.privileges):
            await ask(connection, f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {identifier(schema)} TO {to}")
    for schema, table in named:
        await ask(connection, f"GRANT {rights} ON {identifier(schema)}.{identifier(table)} TO {to}")
    if account.tables and _SEQUENCES & set(account.privileges):
        for (name,) in await ask(connection, _OWNED_SEQUENCES, array(account.tables)):
            await ask(connection, f"GRANT USAGE ON SEQUENCE {name} TO {to}")
    # Where the grantor may give but a part, PostgreSQL gives that, and no more than a warning.
    values = (role, array(account.schemas), array(account.tables), array(account.privileges))
    if lacking := await ask(connection, _LACKING, *values):
        raise RightsError(f"the keeper may not give {lacking[0][0]}: give it WITH GRANT OPTION to a role it is in")


def _scripts(account: Account) -> list[str]:
    scripts = list(account.setup_sql)
    if account.setup_file:
        with Path(account.setup_file).open("rb") as file:
            data = file.read(SETUP_BYTES + 1)
        if len(data) > SETUP_BYTES:
            raise RightsError(f"{account.setup_file} has more than {SETUP_BYTES} bytes")
        try:
            scripts.append(data.decode())
        except UnicodeDecodeError as error:
            raise RightsError(f"{account.setup_file} is not UTF-8") from error
    return scripts
