"""The life of accounts: roles that are made for one grant, and are gone when it is (DESIGN.md 4.3).

Owns which of them this process has, which sessions need them, and when each is due to go. The first session of a grant
has its account made (`proxy.account_making`), the last one's end has it taken down (`proxy.account_ending`), and so has
the grant's end. The ledger outlives the process, and the mark on the role outlives the ledger: any proxy of a target
sweeps up what is long over. Knows nothing of what a session does.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import msgspec
import structlog

from proxy import account_ending, account_making, account_sql
from proxy.account_ledger import FILE, Entry, Ledger, LedgerError
from proxy.account_making import AccountError, Plan, turn_key
from proxy.account_names import is_over
from proxy.account_password import Passwords
from proxy.account_reach import Reach, Turn
from proxy.authentication import CredentialError
from proxy.backoff import Backoff
from proxy.certificates import Certificate, Mint
from proxy.contract.record import EndReason
from proxy.contract.settings import SettingsError
from proxy.login import Connected
from proxy.metrics import Metrics
from proxy.query import LostError, QueryError
from proxy.shared import TargetLink
from proxy.tasks import spawn
from proxy.upstream import MadeLogin, UpstreamError

MAKING_S = 30.0
"""How long a session waits for its account: its turn, and what the profile's statements take."""
LOGIN_TRIES = 6
LOGIN_AGAIN_S = 0.05
"""The pause after the first refusal, doubled each time: a standby may hear of the account a little later."""
RETRY_S = (1.0, 60.0)
BUSY_S = 30.0
"""How soon it is looked again at an account that another process still needs."""
FINISHING_S = 1.0
"""The same once the grant is over, for a statement of that process's that is let finish."""
GRACE_S = 10.0
"""How long sessions of a grant that is over may take to end by themselves: their own stops are verified and told."""
SWEEP_S = 300.0
SWEEP_AGAIN_S = 30.0
"""The same where a target could not be reached."""
MARGIN_S = 60.0
"""How long past its end an account is left to the proxy that has it in its ledger."""
CLOSING_S = 4.0
NOT_READY = "the account for this grant cannot be made ready"

Parameters: TypeAlias = Sequence[tuple[bytes, bytes]]
Key: TypeAlias = tuple[str, str]
"""A target and an account on it."""

_LINGERS: frozenset[EndReason | None] = frozenset({None, "closed", "client_lost", "upstream", "protocol"})
"""Ends after which the person may well come back."""

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class _Held:
    """One account that this process looks after. Its times are the monotonic clock's: none is set back."""

    entry: Entry
    linger_s: float
    sessions: set[str] = field(default_factory=set)
    entered: set[str] = field(default_factory=set)
    """The databases that it may be used in, as far as we know, without asking."""
    due: float = 0.0
    """When it is to go, if no session needs it."""
    over_at: float | None = None
    """When the grant was ended before its time, if it was."""
    ends_at: float = field(init=False)
    """When the grant ends, by the time that was left when its end was heard of."""
    ending: asyncio.Task[None] | None = None
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    """Something has changed that an end which waits should know."""

    def __post_init__(self) -> None:
        self.ends_at = time.monotonic() + self.entry.until - time.time()

    def note(self, entry: Entry) -> None:
        """Take what is known of it now."""
        moved, self.entry = entry.until != self.entry.until, entry
        if moved:
            self.__post_init__()

    def left_s(self) -> float:
        """How long until it is to go, as things stand; 0 or less where it should be gone."""
        now = time.monotonic()
        if self.over_at is not None:
            return (self.over_at + GRACE_S if self.sessions else min(self.due, self.over_at)) - now
        end_s = min(self.ends_at - now, self.entry.until - time.time())
        return end_s + self.entry.finish_s + GRACE_S if self.sessions else min(self.due - now, end_s)


class Accounts:
    """All accounts of one process."""

    def __init__(
        self,
        links: Callable[[], Mapping[str, TargetLink]],
        *,
        ledger: Ledger,
        passwords: Passwords,
        metrics: Metrics,
        sweeps: bool,
    ) -> None:
        """`links` gives the targets in force. `sweeps`: whether this process looks for what others have left."""
        self._links = links
        self._ledger = ledger
        self._writing = asyncio.Lock()
        self._passwords = passwords
        self._metrics = metrics
        self._sweeps = sweeps
        self._held: dict[Key, _Held] = {}
        self._wake = asyncio.Event()
        self._by_session: dict[str, _Held] = {}
        self._closing = False
        for entry in ledger.entries.values():
            self._held[entry.target, entry.account] = _Held(entry=entry, linger_s=0)
        metrics.gauge("curfew_accounts", "Accounts that are not known to be gone.", lambda: len(self._held))

    # For sessions.

    async def connect(self, session: str, plan: Plan, link: TargetLink, parameters: Parameters) -> Connected:
        """Log in for `session`, as its own account or the person's own role, made ready for it.

        Raises UpstreamError. `released` must follow, whatever comes of it.
        """
        held = self._hold(session, plan)
        try:
            async with asyncio.timeout(MAKING_S):
                await self._note(held.entry)
                if not plan.is_elevated and plan.database in held.entered:
                    with contextlib.suppress(CredentialError):  # gone meanwhile, or another proxy has set its password
                        return await self._log_in(plan, link, parameters)
                    held.entered.clear()
                return await self._make_and_log_in(held, plan, link, parameters)
        except (AccountError, QueryError, LostError, SettingsError, LedgerError, ValueError, TimeoutError) as error:
            self._metrics.accounts["failed"] += 1
            why = str(error) or f"not ready within {MAKING_S:g} s"
            log.error(  # noqa: TRY400 an operator's matter
                "no account, no session", target=plan.target, account=plan.account, grant=plan.grant.id, error=why
            )
            raise UpstreamError(f"{plan.target}: {why}", public=NOT_READY) from error
        except CredentialError as error:
            log.error(  # noqa: TRY400 as above
                "the target refused the login that was made for a grant",
                target=plan.target,
                user=plan.user,
                why=str(error),
            )
            raise

    def _hold(self, session: str, plan: Plan) -> _Held:
        key = (plan.target, plan.account)
        entry = Entry(
            account=plan.account,
            target=plan.target,
            grant=plan.grant.id,
            person=plan.grant.person,
            identity="elevated" if plan.is_elevated else "ephemeral",
            until=plan.grant.expires_at,
            finish_s=plan.finish_s,
        )
        linger_s = plan.profile.account.linger_s
        held = self._held.setdefault(key, _Held(entry=entry, linger_s=linger_s))
        held.note(msgspec.structs.replace(entry, until=max(entry.until, held.entry.until)))
        held.linger_s = linger_s
        held.sessions.add(session)
        self._by_session[session] = held
        return held

    async def _make_and_log_in(self, held: _Held, plan: Plan, link: TargetLink, parameters: Parameters) -> Connected:
        """Have our turn until we are in: nobody takes the account down, or sets another password, in between."""
        reach = link.reach
        async with reach.making, reach.turn(plan.key) as turn:
            keeper = link.settings.keeper.user
            if await account_making.make(turn, plan, self._passwords, keeper):
                self._metrics.accounts["made"] += 1
                log.info(
                    "account made",
                    target=plan.target,
                    account=plan.account,
                    grant=plan.grant.id,
                    person=plan.grant.person,
                )
            connected = await self._log_in_soon(plan, link, parameters)
        held.entered.add(plan.database)
        return connected

    async def _log_in_soon(self, plan: Plan, link: TargetLink, parameters: Parameters) -> Connected:
        for tried in range(LOGIN_TRIES - 1):
            try:
                return await self._log_in(plan, link, parameters)
            except CredentialError as error:
                log.info(
                    "a login that was just made is not known yet", target=plan.target, user=plan.user, why=str(error)
                )
                await asyncio.sleep(LOGIN_AGAIN_S * 2**tried)
        return await self._log_in(plan, link, parameters)

    async def _log_in(self, plan: Plan, link: TargetLink, parameters: Parameters) -> Connected:
        certificate = None if plan.by_password else await asyncio.to_thread(_mint, plan)
        login = MadeLogin(user=plan.user, password=plan.password(self._passwords), certificate=certificate)
        return await link.dialler.log_in(login, parameters)

    def released(self, session: str, reason: EndReason | None) -> None:
        """The session is over, for `reason` where it got so far. Does nothing for one that never had an account."""
        if (held := self._by_session.pop(session, None)) is None:
            return
        held.sessions.discard(session)
        if reason == "revoked":
            self._end_early(held)
        if not held.sessions:
            held.due = time.monotonic() + (held.linger_s if reason in _LINGERS else 0.0)
            self._hurry(held)

    # For directives.

    def revoked(self, grant: str) -> None:
        """The grant is over before its time: its account goes, whoever works with it."""
        for held in self._held.values():
            if held.entry.grant == grant:
                self._end_early(held)
                self._hurry(held)

    def _end_early(self, held: _Held) -> None:
        held.entry = msgspec.structs.replace(held.entry, revoked=True)
        held.over_at = time.monotonic() if held.over_at is None else held.over_at

    def _hurry(self, held: _Held) -> None:
        held.hurry.set()
        self._wake.set()

    async def extend(self, grant: str, expires_at: float) -> None:
        """The grant's end moves: so does that of its account. A target that cannot be reached is tried again."""
        for held in list(self._held.values()):
            if held.entry.grant == grant and expires_at > held.entry.until:
                held.note(msgspec.structs.replace(held.entry, until=expires_at))
                await self._extend(held.entry)

    async def _extend(self, entry: Entry) -> None:
        backoff = Backoff(*RETRY_S)
        while (held := self._held.get((entry.target, entry.account))) is not None and held.entry.until == entry.until:
            link = self._links().get(entry.target)
            try:
                await self._note(entry)
                if link is not None:
                    async with _turn(link, entry) as turn:
                        await account_making.extend(turn, entry.account, entry.until)
                    log.info("account extended", target=entry.target, account=entry.account, grant=entry.grant)
            except (UpstreamError, QueryError, LostError, LedgerError) as error:
                log.warning("an account is not extended yet", account=entry.account, error=str(error))
            else:
                return
            await asyncio.sleep(backoff.next_s())

    # The life of the process.

    async def run(self) -> None:
        """Take down what is due, and sweep, until cancelled."""
        sweeping = spawn("account sweep", self._sweep_for_ever()) if self._sweeps else None
        try:
            while True:
                self._wake.clear()
                waiting = [(held.left_s(), held) for held in self._held.values() if held.ending is None]
                for left_s, held in waiting:
                    if left_s <= 0:
                        self._begin_to_end(held)
                pause = min((left_s for left_s, _ in waiting if left_s > 0), default=SWEEP_S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(pause, SWEEP_S)):
                        await self._wake.wait()
        finally:
            if sweeping is not None:
                sweeping.cancel()

    def _begin_to_end(self, held: _Held) -> None:
        held.ending = spawn(f"end of {held.entry.account}", self._see_off(held))

    async def _see_off(self, held: _Held) -> None:
        """Take one account down, trying until it is gone or is needed again."""
        backoff = Backoff(*RETRY_S)
        try:
            while held.left_s() <= 0 or self._closing:
                held.hurry.clear()
                wait_s = await self._try_to_end(held)
                if wait_s is None or self._closing:
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s or backoff.next_s()):
                        await held.hurry.wait()
        finally:
            held.ending = None
            self._wake.set()

    async def _try_to_end(self, held: _Held) -> float | None:
        """One try. None: it is gone; 0: it failed; else when to look again."""
        entry = held.entry
        try:
            if (link := self._links().get(entry.target)) is None:
                raise UpstreamError(f"{entry.target} is not configured any more")
            await self._note(entry)
            held.entered.clear()
            async with link.reach.ending:
                result = await account_ending.end(link.reach, entry)
        except (UpstreamError, QueryError, LostError, LedgerError, account_ending.TroubleError, ValueError) as error:
            self._metrics.accounts["trouble"] += 1
            log.warning(
                "an account is not taken down yet", account=entry.account, target=entry.target, error=str(error)
            )
            return 0.0
        if result == "in use":
            return FINISHING_S if is_over(entry.until) else BUSY_S
        if result == "foreign":
            log.error("a role has the name of an account and is none: it is left alone", account=entry.account)
        self._metrics.accounts["dropped"] += result == "dropped"
        await self._forget(held)
        if link.reach.dropped:
            spawn("late logins", _look_again(link.reach))
        return None

    async def _forget(self, held: _Held) -> None:
        """Strike it out, unless a session has come for it meanwhile. Whoever comes while we write, writes after us."""
        entry = held.entry
        async with self._writing:
            if held.sessions:
                return
            with contextlib.suppress(LedgerError):  # then the next start looks for it once more
                await asyncio.to_thread(self._ledger.strike, entry.target, entry.account)
            if not held.sessions:
                self._held.pop((entry.target, entry.account), None)

    async def _sweep_for_ever(self) -> None:
        while True:
            reached = [await self._sweep(name, link) for name, link in self._links().items()]
            await asyncio.sleep((SWEEP_S if all(reached) else SWEEP_AGAIN_S) * random.uniform(0.5, 1))  # noqa: S311 jitter

    async def _sweep(self, target: str, link: TargetLink) -> bool:
        """Take up what has long been over on a target, whoever made it; whether the target could be reached."""
        if not link.settings.makes_accounts:
            return True
        try:
            async with link.reach.connection(link.settings.keeper.database) as connection:
                found = await account_sql.marked(connection)
        except (UpstreamError, QueryError, LostError) as error:
            log.warning("a target's accounts could not be looked through", target=target, error=str(error))
            return False
        for account, mark in found:
            if mark.until + mark.finish_s + MARGIN_S <= time.time() and (target, account) not in self._held:
                entry = Entry(
                    account=account,
                    target=target,
                    grant=mark.grant,
                    person=mark.person,
                    identity=mark.identity,
                    until=mark.until,
                    finish_s=mark.finish_s,
                )
                log.warning("an account of nobody's is taken down", target=target, account=account, grant=mark.grant)
                self._held[target, account] = _Held(entry=entry, linger_s=0)
        self._wake.set()
        return True

    async def adopt(self, ledger: Ledger) -> None:
        """Look after what a ledger that is nobody's any more has open; it is removed then. Raises LedgerError."""
        for entry in list(ledger.entries.values()):
            await self._note(entry)
            self._held.setdefault((entry.target, entry.account), _Held(entry=entry, linger_s=0))
        await asyncio.to_thread(ledger.remove)
        self._wake.set()

    async def close(self) -> None:
        """Take down, within a bound, what no session needs any more. What is left is the next start's, or a sweep's."""
        self._closing = True
        for held in self._held.values():
            held.hurry.set()
            if not held.sessions and held.ending is None:
                self._begin_to_end(held)
        if ending := [held.ending for held in self._held.values() if held.ending is not None]:
            _, late = await asyncio.wait(ending, timeout=CLOSING_S)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=CLOSING_S)
        async with self._writing:
            self._ledger.close()

    async def _note(self, entry: Entry) -> None:
        """Have `entry` on disk. Raises LedgerError."""
        async with self._writing:
            if self._ledger.entries.get((entry.target, entry.account)) != entry:
                await asyncio.to_thread(self._ledger.note, entry)


@asynccontextmanager
async def _turn(link: TargetLink, entry: Entry) -> AsyncIterator[Turn]:
    elevated = entry.identity == "elevated"
    async with (
        link.reach.making,
        link.reach.turn(turn_key(entry.person if elevated else entry.account, elevated=elevated)) as turn,
    ):
        yield turn


async def adopt_all(folders: Iterable[Path], accounts: Accounts) -> None:
    """Have `accounts` look after the ledgers in `folders`, which are nobody's any more."""
    for folder in folders:
        backoff = Backoff(*RETRY_S)
        while (folder / FILE).exists():
            try:
                await accounts.adopt(await asyncio.to_thread(Ledger.open, folder))
            except LedgerError as error:  # a worker of an earlier supervisor may still have it
                log.warning("a ledger of another number of workers waits", error=str(error))
                await asyncio.sleep(backoff.next_s())


async def _look_again(reach: Reach) -> None:
    await asyncio.sleep(1.0)
    with contextlib.suppress(UpstreamError, QueryError, LostError):
        await account_ending.look_again(reach)


def _mint(plan: Plan) -> Certificate:
    account = plan.profile.account
    path = f"targets.{plan.target}.access.{plan.grant.profile}.account"
    mint = Mint(path, certificate_file=account.ca_certificate_file, key_file=account.ca_key_file)
    return mint.mint(plan.user, until=plan.grant.expires_at)
