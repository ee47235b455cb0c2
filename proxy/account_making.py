"""Making an account, or seeing that it is as it should be: all in one transaction, so that nothing half-made stays.

Owns the order of things inside one turn (`proxy.account_reach`). Idempotent: whoever made the account, it has this
proxy's password and the rights for this database afterwards. Never logs in as it (see `proxy.accounts`).
"""

from dataclasses import dataclass

import msgspec

from proxy import account_rights, account_sql
from proxy.account_names import Mark, account_name, is_over, timestamp, upstream_user
from proxy.account_password import Passwords
from proxy.account_reach import Turn, transaction
from proxy.account_rights import RightsError
from proxy.account_sql import Role
from proxy.contract.grant import EndMode, Grant
from proxy.contract.settings import AccessProfile
from proxy.query import Connection

VERSION_STEP = 10_000
"""server_version_num of a major version."""


class AccountError(Exception):
    """The account cannot be made, whatever is tried again. For the log; an operator's matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one session needs."""

    grant: Grant
    profile: AccessProfile
    target: str
    database: str
    finish_timeout_s: float = 60.0
    """The target's."""

    @property
    def finish_s(self) -> float:
        """How long behind the grant's end what runs may finish."""
        return self.finish_timeout_s if self.grant.end is EndMode.FINISH else 0.0

    @property
    def account(self) -> str:
        """The account's name."""
        return account_name(self.grant)

    @property
    def user(self) -> str:
        """Who logs in."""
        return upstream_user(self.grant, self.profile)

    @property
    def is_elevated(self) -> bool:
        """Whether the person's own role logs in."""
        return self.profile.identity == "elevated"

    @property
    def by_password(self) -> bool:
        """Whether whoever logs in does it with a password of ours."""
        return not self.is_elevated or self.profile.account.elevate_by == "password"

    @property
    def key(self) -> str:
        """What must not be worked at twice at a time: a person's own role may serve several grants."""
        return turn_key(self.grant.person if self.is_elevated else self.account, elevated=self.is_elevated)

    def verifier(self, passwords: Passwords) -> str | None:
        """What PostgreSQL is to know of the password."""
        if not self.by_password:
            return None
        grant = "" if self.is_elevated else self.grant.id
        return passwords.verifier(target=self.target, role=self.user, grant=grant)

    def password(self, passwords: Passwords) -> str | None:
        """The password to log in with."""
        if not self.by_password:
            return None
        return passwords.of(target=self.target, role=self.user, grant="" if self.is_elevated else self.grant.id)


def turn_key(name: str, *, elevated: bool) -> str:
    """The name of the turn at an account, or at a person's own role."""
    return f"{'person' if elevated else 'account'} {name}"


async def make(turn: Turn, plan: Plan, passwords: Passwords, keeper: str) -> bool:
    """See that the account is there and may work in the plan's database; whether it had to be made.

    Raises AccountError, QueryError, LostError, UpstreamError.
    """
    if is_over(plan.grant.expires_at):
        raise AccountError(f"the grant {plan.grant.id} is over")
    person = await _person(turn.connection, plan, keeper) if plan.is_elevated else None
    found = await account_sql.find(turn.connection, plan.account)
    if found is not None:
        _check_ours(found, plan)
    async with turn.database(plan.database) as connection, transaction(connection):
        mark = await _mark(connection, plan, found, person)
        try:
            await _set_up(connection, plan, found, mark, plan.verifier(passwords))
        except (RightsError, OSError) as error:
            raise AccountError(str(error)) from error
    return found is None


async def _person(connection: Connection, plan: Plan, keeper: str) -> Role:
    """The person's own role, where it may be elevated."""
    name = plan.grant.person
    role = await account_sql.find(connection, name)
    if role is None:
        raise AccountError(f"there is no role {name!r} to elevate: CREATE ROLE it, or use `identity` 'ephemeral'")
    if role.is_superuser or name == keeper or role.mark is not None:
        raise AccountError(f"{name!r} is not to be elevated: it is a superuser, the keeper, or an account")
    if not role.can_login:
        raise AccountError(f"the role {name!r} may not log in: ALTER ROLE it LOGIN")
    return role


def _check_ours(found: Role, plan: Plan) -> None:
    mark = found.mark
    if mark is None or (mark.grant, mark.person, mark.identity) != (
        plan.grant.id,
        plan.grant.person,
        plan.profile.identity,
    ):
        raise AccountError(f"there is a role {found.name!r} already, and it is not this grant's account")


async def _mark(connection: Connection, plan: Plan, found: Role | None, person: Role | None) -> Mark:
    """What the account's mark is to say."""
    known = found.mark if found is not None and found.mark is not None else None
    by_password = person is not None and plan.by_password
    before = None
    if person is not None and by_password:
        others = [
            mark for _, mark in await account_sql.marked(connection) if mark.person == person.name and mark.password
        ]
        before = others[0].before if others else person.valid_until
    entered = [] if known is None else known.databases
    return Mark(
        grant=plan.grant.id,
        person=plan.grant.person,
        identity="elevated" if plan.is_elevated else "ephemeral",
        until=max(plan.grant.expires_at, 0 if known is None else known.until),
        finish_s=max(plan.finish_s, 0 if known is None else known.finish_s),
        databases=entered if plan.database in entered else [*entered, plan.database],
        reassign_to=plan.profile.account.reassign_to,
        password=by_password,
        before=before,
    )


async def _set_up(connection: Connection, plan: Plan, found: Role | None, mark: Mark, verifier: str | None) -> None:
    account, own = plan.profile.account, None if plan.is_elevated else verifier
    known = found.mark if found is not None else None
    server = found.version if found is not None else await account_sql.version(connection)
    if found is None:
        await account_sql.create(connection, plan.account, mark, own)
    else:
        await account_sql.let_in(connection, plan.account, mark, own)
        if known != mark:
            await account_sql.describe(connection, plan.account, mark)
    if found is None:
        for role in account_rights.everywhere(account, server // VERSION_STEP):
            await account_sql.enrol(connection, plan.account, role)
    if account_rights.is_by_database(account) and (known is None or plan.database not in known.databases):
        await account_rights.give(connection, account, plan.account, person=plan.grant.person, grant=plan.grant.id)
    if plan.is_elevated:
        # Last: the person's rights begin when the transaction ends, and all at once.
        await account_sql.elevate(connection, plan.grant.person, plan.account, server)
        if verifier is not None:
            until = await _latest(connection, plan.grant.person, mark)
            await account_sql.set_password(connection, plan.grant.person, verifier, timestamp(until))


async def _latest(connection: Connection, person: str, mark: Mark) -> float:
    """The end of the last of the person's grants."""
    others = [other for _, other in await account_sql.marked(connection) if other.person == person and other.password]
    return max([mark.until, *(other.until for other in others)])


async def extend(turn: Turn, name: str, expires_at: float) -> bool:
    """Move the account's end to `expires_at`, if that is later; whether the account is there. Raises as `make`."""
    found = await account_sql.find(turn.connection, name)
    if found is None or found.mark is None:
        return False
    if expires_at > found.mark.until:
        mark = msgspec.structs.replace(found.mark, until=expires_at)
        async with transaction(turn.connection):
            await account_sql.move_end(turn.connection, name, mark)
            if mark.password:
                until = await _latest(turn.connection, mark.person, mark)
                await account_sql.move_role_end(turn.connection, mark.person, timestamp(until))
    return True
