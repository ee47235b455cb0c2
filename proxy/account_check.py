"""What stands in the way of making accounts: files that the profiles name, and rights that the keeper lacks.

Looks and reports, for `proxy.check`; what a profile gives inside databases shows when an account is made.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from proxy import account_rights
from proxy.account_reach import STATEMENT_S
from proxy.certificates import Mint
from proxy.contract.settings import AccessProfile, Target
from proxy.dial import UpstreamError
from proxy.query import SETTINGS, Connection, LostError, QueryError
from proxy.upstream import Dialler

_OWN = """
SELECT rolcreaterole OR rolsuper, rolsuper, pg_catalog.current_setting('server_version_num')
FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER
"""
_ROLE = """
SELECT rolsuper, pg_catalog.pg_has_role(oid, 'MEMBER WITH ADMIN OPTION'), pg_catalog.pg_has_role(oid, 'MEMBER')
FROM pg_catalog.pg_roles WHERE rolname = $1
"""
_ADMIN_SINCE = 160_000


def _profiles(name: str, target: Target) -> Iterator[tuple[str, AccessProfile]]:
    for key, profile in target.access.items():
        if profile.identity != "vaulted":
            yield f"targets.{name}.access.{key}.account", profile


def file_faults(name: str, target: Target) -> list[str]:
    """The faults that this machine alone can show."""
    faults: list[str] = []
    for path, profile in _profiles(name, target):
        account = profile.account
        if account.ca_key_file:
            faults += Mint(path, certificate_file=account.ca_certificate_file, key_file=account.ca_key_file).faults()
        if account.setup_file:
            try:
                with Path(account.setup_file).open("rb") as file:
                    file.read(1)
            except OSError as error:
                faults.append(f"{path}.setup_file: {account.setup_file} cannot be read: {error.strerror}")
    return faults


async def keeper_faults(name: str, target: Target, dialler: Callable[[Target], Dialler]) -> list[str]:
    """What the keeper lacks to make the target's accounts, each fault with its key's path and what to do."""
    if not target.makes_accounts:
        return []
    keeper = target.keeper
    parameters = [(b"user", keeper.user.encode()), (b"database", keeper.database.encode()), *SETTINGS]
    try:
        connected = await dialler(target).log_in(keeper, parameters)
        connection = Connection(connected, on_end=lambda: None)
    except UpstreamError:
        return []  # said of the keeper already
    try:
        return [fault for path, profile in _profiles(name, target) for fault in await _lacks(connection, path, profile)]
    except (QueryError, LostError) as error:
        return [f"targets.{name}.keeper: its rights could not be looked at: {error}"]
    finally:
        connection.close()


async def _lacks(connection: Connection, path: str, profile: AccessProfile) -> list[str]:
    ((may_create, superuser, version),) = await connection.fetch(_OWN, timeout_s=STATEMENT_S)
    server = int(version or 0)
    if may_create != "t":
        return [f"{path}: the keeper may not make roles; see deploy/keeper-accounts.sql"]
    faults: list[str] = []
    account = profile.account
    for role in account_rights.everywhere(account, server // 10_000):
        rows = await connection.fetch(_ROLE, role, timeout_s=STATEMENT_S)
        if not rows:
            faults.append(f"{path}: there is no role {role!r} to give")
        elif rows[0][0] == "t" and superuser != "t":
            faults.append(f"{path}: {role!r} is a superuser, whose rights the keeper cannot give; name another role")
        elif rows[0][1] != "t" and server >= _ADMIN_SINCE:
            faults.append(f"{path}: the keeper may not give {role!r}: GRANT it TO the keeper WITH ADMIN TRUE")
    if account.reassign_to:
        rows = await connection.fetch(_ROLE, account.reassign_to, timeout_s=STATEMENT_S)
        if not rows:
            faults.append(f"{path}.reassign_to: there is no role {account.reassign_to!r}")
        elif rows[0][2] != "t" and superuser != "t":
            faults.append(f"{path}.reassign_to: GRANT {account.reassign_to!r} TO the keeper, which hands over to it")
    return faults
