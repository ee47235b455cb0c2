"""Ending an account: block logins, terminate, verify none left, hand over what it owns, drop.

Owns that order, inside one turn (`proxy.account_reach`). Each step may have been done before, by whoever was killed at
it: every one can be repeated. Decides nothing but whether somebody still works with the account (see `proxy.accounts`).
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import structlog

from proxy import account_sql
from proxy.account_ledger import Entry
from proxy.account_making import turn_key
from proxy.account_names import is_over, timestamp
from proxy.account_reach import Reach, Turn, transaction
from proxy.account_sql import Role
from proxy.dial import UpstreamError
from proxy.query import Connection, LostError, QueryError

PATIENCE_S = 2.0
"""How long backends may take to end by themselves: their sessions' own verified stops learn more of them than we do."""
GONE_S = 10.0
POLL_S = 0.02

Result: TypeAlias = Literal["dropped", "gone", "in use", "foreign"]

log = structlog.get_logger(__name__)


class TroubleError(Exception):
    """The account could not be taken down for now. For the log; it is tried again."""


@dataclass(slots=True, kw_only=True)
class Left:
    """What an account left behind: for the log."""

    terminated: int = 0
    rolled_back: list[str] = field(default_factory=list)
    """Two-phase transactions, as DATABASE: GID."""
    owned: dict[str, list[str]] = field(default_factory=dict)
    """Objects by database."""
    given_to: dict[str, str] = field(default_factory=dict)
    """Who has them now, by database."""


async def end(reach: Reach, entry: Entry) -> Result:
    """Take the account down, unless its grant lasts and somebody works with it.

    Raises TroubleError, QueryError, LostError, UpstreamError: then it is blocked at most, and must be tried again.
    """
    elevated = entry.identity == "elevated"
    async with reach.turn(turn_key(entry.person if elevated else entry.account, elevated=elevated)) as turn:
        role = await account_sql.find(turn.connection, entry.account)
        if role is None:
            return "gone"
        if role.mark is None or role.mark.grant != entry.grant:
            return "foreign"
        # Another process may have a session that is let finish. As the person somebody works who never heard of us,
        # perhaps: their rights end with the grant, but for the sessions that we know of (`proxy.accounts`).
        finish_s = 0.0 if elevated else role.mark.finish_s
        over = entry.revoked or is_over(role.mark.until + finish_s)
        if not over and await _in_use(turn, role, entry):
            return "in use"
        left = Left()
        await _block(turn, role, entry)
        if not (over or elevated) and await _in_use(turn, role, entry):
            # It came in between. As the person, nobody can: whoever logs in as one has the turn.
            await account_sql.may_login(turn.connection, role.name, allowed=True)
            return "in use"
        await _empty(turn, role, left)
        await _hand_over(turn, role, left)
        await _drop(turn, role)
        _tell(entry, left)
    return "dropped"


async def _in_use(turn: Turn, role: Role, entry: Entry) -> bool:
    """Whether a backend has logged in by this account; for an elevated one, as the person."""
    oid: str | None = role.oid
    if entry.identity == "elevated":
        person = await account_sql.find(turn.connection, entry.person)
        oid = None if person is None else person.oid
    if oid is None:
        return False
    counts = [await account_sql.backends(turn.connection, oid)]
    for host in turn.reach.standbys:
        try:
            async with turn.reach.connection(turn.home, host) as connection:
                counts.append(await account_sql.backends(connection, oid))
        except (UpstreamError, LostError) as error:
            log.info("a host could not be asked about an account", account=role.name, host=str(host), error=str(error))
    return any(counts)


async def _block(turn: Turn, role: Role, entry: Entry) -> None:
    """From here on nobody logs in by the account, and nobody has its rights by being a member."""
    async with transaction(turn.connection):
        await account_sql.may_login(turn.connection, role.name, allowed=False)
        if entry.identity == "elevated":
            await account_sql.expel(turn.connection, role)


async def _empty(turn: Turn, role: Role, left: Left) -> None:
    """End every backend of the account, on every host, and see that none is left."""
    left.terminated = await _terminate_all(turn.connection, role)
    for host in turn.reach.standbys:
        try:
            async with turn.reach.connection(turn.home, host) as connection:
                await _terminate_all(connection, role)
        except (UpstreamError, LostError) as error:
            log.warning(
                "a host could not be asked about an account", account=role.name, host=str(host), error=str(error)
            )


async def _terminate_all(connection: Connection, role: Role) -> int:
    patient_until = time.monotonic() + PATIENCE_S
    while await account_sql.backends(connection, role.oid) and time.monotonic() < patient_until:  # noqa: ASYNC110 asks
        await asyncio.sleep(POLL_S)
    try:
        async with asyncio.timeout(GONE_S):
            first = count = await account_sql.terminate(connection, role.oid)
            while count:
                await asyncio.sleep(POLL_S)
                count = await account_sql.terminate(connection, role.oid)
    except TimeoutError as error:
        raise TroubleError(f"backends of {role.name} live on") from error
    return first


async def _hand_over(turn: Turn, role: Role, left: Left) -> None:
    """Give away what it owns in every database, and take back what it was given."""
    await account_sql.join(turn.connection, role)
    for gid, database in await account_sql.prepared(turn.connection, role.name):
        async with turn.database(database) as connection:
            await account_sql.roll_back_prepared(connection, role.name, gid)
        left.rolled_back.append(f"{database}: {gid}")
    # The keeper's own database too, for what is server-wide.
    for database in sorted({turn.home, *await account_sql.databases(turn.connection, role.oid)}):
        async with turn.database(database) as connection:
            await _hand_over_here(connection, database, role, left)


async def _hand_over_here(connection: Connection, database: str, role: Role, left: Left) -> None:
    if owned := await account_sql.owned(connection, role.oid):
        left.owned[database] = owned
    to = role.mark.reassign_to if role.mark is not None else ""
    try:
        async with transaction(connection):
            await account_sql.hand_over(connection, role.name, to)
    except QueryError as error:
        if not to or error.sqlstate.startswith(_LATER):
            raise
        log.error(  # noqa: TRY400 an operator's matter
            "an account's objects go to the keeper: they cannot be given to whom `reassign_to` names",
            account=role.name,
            database=database,
            reassign_to=to,
            error=str(error),
        )
        to = ""
        async with transaction(connection):
            await account_sql.hand_over(connection, role.name, to)
    if owned:
        left.given_to[database] = to or "the keeper"


_LATER = ("40", "53", "55", "57")
"""What may be otherwise in a moment: deadlocks, resources, locks, cancellation."""


async def _drop(turn: Turn, role: Role) -> None:
    """Drop the role, and with it every membership; in the same transaction a person's own role is as it was before."""
    mark = role.mark
    async with transaction(turn.connection):
        await account_sql.drop(turn.connection, role.name)
        if mark is not None and mark.password:
            await _restore(turn.connection, mark.person, mark.before)
    turn.reach.dropped.append(role.oid)


async def _restore(connection: Connection, person: str, before: str | None) -> None:
    if await account_sql.find(connection, person) is None:
        return
    others = [
        other.until for _, other in await account_sql.marked(connection) if other.person == person and other.password
    ]
    if others:
        await account_sql.move_role_end(connection, person, timestamp(max(others)))
    else:
        await account_sql.set_password(connection, person, None, before or "infinity")


async def look_again(reach: Reach) -> None:
    """Terminate who slipped in. Raises as `end`.

    That is who had passed PostgreSQL's check for LOGIN just before the account was blocked, and showed among the
    backends only after it was gone. Such a session has no right left but PUBLIC's.
    """
    oids, reach.dropped = reach.dropped, []
    async with reach.connection(reach.target.keeper.database) as connection:
        for oid in oids:
            if await account_sql.terminate(connection, oid):
                log.warning("a login slipped in while its account ended; it is terminated", target=reach.name, role=oid)


def _tell(entry: Entry, left: Left) -> None:
    log.info(
        "account dropped",
        account=entry.account,
        target=entry.target,
        grant=entry.grant,
        person=entry.person,
        terminated=left.terminated,
        rolled_back=left.rolled_back,
        owned=left.owned,
        given_to=left.given_to,
    )
