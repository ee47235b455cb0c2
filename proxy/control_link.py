"""The proxy's link to control: join once, follow the directives, keep what they say, ship the journal.

Owns the lease (whether control was heard lately) and what is known of the fleet; hands each directive to the server
and decides nothing about sessions. While control is away the proxy works on what is kept (see `proxy.membership`).
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy import membership
from proxy.backoff import Backoff
from proxy.contract.directive import LEASE_S, AnyDirective, DirectiveError, Joined, Joining, Keys, Snapshot, decode
from proxy.contract.proof import public_text
from proxy.contract.settings import SettingsError
from proxy.contract.token import KeySet, KeySetError
from proxy.control_client import ControlClient, ControlError
from proxy.journal import Journal
from proxy.membership import Membership, MembershipError
from proxy.quota import Quota
from proxy.shipping import Shipper
from proxy.tasks import spawn

FIRST_WAIT_S = 0.25
LAST_WAIT_S = 5.0
"""A lost lease is back this long after control is: less than LEASE_S, so that a restart of control is not noticed."""
SAVE_WAIT_S = 5.0
UNAUTHORISED = frozenset({401, 403})

log = structlog.get_logger(__name__)


class ControlLinkError(Exception):
    """The link cannot be set up. The text names the option or the file, and what to do."""


def now_s() -> float:
    """A clock that nobody sets, and that goes on while the machine is suspended: a lease is not longer for that."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class ControlLink:
    """The one link of a proxy process. Made at start; `run` runs for as long as the process does."""

    def __init__(
        self,
        *,
        name: str,
        url: str,
        ca_file: str | None,
        join_token: Callable[[], str | None] | None,
        state_dir: Path,
        key: Ed25519PrivateKey,
        journal: Journal,
        on_directive: Callable[[AnyDirective], None],
        lease_s: float = LEASE_S,
        home: Path | None = None,
        joins: bool = True,
    ) -> None:
        """Raises ControlLinkError. `join_token` is asked before each attempt to join, in a thread.

        Of the workers of one proxy, the one that `joins` leaves the membership in `home`, where the others wait for it.
        """
        self._name = name
        self._key = key
        self._join_token = join_token
        self._state_dir = state_dir
        self._home = home or state_dir
        self._joins = joins
        self._on_directive = on_directive
        self._lease_s = lease_s
        self._heard = float("-inf")
        self._changed = asyncio.Event()
        try:
            self._client = ControlClient(url=url, ca_file=ca_file, name=name, key=key, silence_s=lease_s)
        except OSError as error:
            raise ControlLinkError(f"proxy.control.ca_file: {ca_file}: {error.strerror or error}") from error
        try:
            self._known = self._kept()
        except MembershipError as error:
            raise ControlLinkError(str(error)) from error
        self._saved = self._known
        if self._known is None and join_token is None:
            raise ControlLinkError(
                "proxy.control.join_token: needed for the first start; make one with `curfew-control join-token`"
            )
        self.shipper = self.ships(journal)
        self.quota = Quota(self._client, holder="proxy" if self._home == state_dir else state_dir.name)
        self.connected = False
        """Whether the stream of directives is open."""

    @property
    def has_lease(self) -> bool:
        """Whether control was heard less than LEASE_S ago."""
        return now_s() - self._heard < self._lease_s

    @property
    def known(self) -> Membership | None:
        """What control has told; None until this proxy has joined."""
        return self._known

    def ships(self, journal: Journal) -> Shipper:
        """What ships `journal` to control."""
        return Shipper(journal, self._client.post_records)

    def _kept(self) -> Membership | None:
        return membership.begin(
            self._state_dir, self._home, proxy=self._name, public_key=public_text(self._key.public_key())
        )

    async def run(self) -> None:
        """Join if need be, tell what is known, then follow and ship until cancelled."""
        try:
            known = self._known
            if known is None:
                known = await self._join() if self._joins else await self._wait_for_join()
            self._on_directive(known.snapshot(now=time.time()))
            tasks = [
                spawn("directives", self._follow_for_ever()),
                spawn("membership", self._save_for_ever()),
                spawn("shipping", self.shipper.run()),
                spawn("presence", self.quota.run()),
            ]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await self.quota.close()
            await self._client.close()
            self._save_last()

    async def _join(self) -> Membership:
        backoff = Backoff(FIRST_WAIT_S, LAST_WAIT_S)
        while True:
            try:
                joined = await self._try_to_join()
                KeySet.from_jwks(joined.jwks)
            except (ControlError, KeySetError, SettingsError) as error:
                wait_s = backoff.next_s()
                hint = "is the join token still good? `curfew-control join-token` makes a new one"
                refused = isinstance(error, ControlError) and error.status in UNAUTHORISED
                log.error(  # noqa: TRY400 expected while control is away; a traceback would hide the sentence
                    "this proxy has not joined yet: it admits nobody",
                    error=str(error),
                    hint=hint if refused else None,
                    again_in_s=round(wait_s, 1),
                )
                await asyncio.sleep(wait_s)
            else:
                log.info("joined", proxy=self._name, issuer=joined.issuer, audience=joined.audience)
                return await self._keep_joined(joined)

    async def _wait_for_join(self) -> Membership:
        """What another worker has joined with."""
        backoff = Backoff(FIRST_WAIT_S, LAST_WAIT_S)
        while (known := self._kept()) is None:
            wait_s = backoff.next_s()
            await asyncio.sleep(wait_s)
        self._known = known
        self._changed.set()
        return known

    async def _try_to_join(self) -> Joined:
        token = await asyncio.to_thread(self._join_token) if self._join_token is not None else None
        if not token:
            raise ControlError("proxy.control.join_token is empty")
        public_key = public_text(self._key.public_key())
        return await self._client.join(Joining(name=self._name, join_token=token, public_key=public_key))

    async def _keep_joined(self, joined: Joined) -> Membership:
        known = Membership(
            proxy=self._name,
            public_key=public_text(self._key.public_key()),
            issuer=joined.issuer,
            audience=joined.audience,
            jwks=joined.jwks,
        )
        self._known = known
        self._changed.set()
        return known

    async def _follow_for_ever(self) -> None:
        backoff = Backoff(FIRST_WAIT_S, LAST_WAIT_S)
        while True:
            began = time.monotonic()
            try:
                await self._follow()
                error = "control closed the stream"
            except ControlError as failure:
                error = str(failure)
            except (DirectiveError, KeySetError) as failure:
                # A directive that cannot be obeyed: what control wants is not known, so there is no lease.
                self._heard = float("-inf")
                error = str(failure)
            except Exception:
                log.exception("following the directives failed")
                self._heard = float("-inf")
                error = "see above"
            finally:
                self.connected = False
            if time.monotonic() - began > self._lease_s:
                backoff.reset()  # not after each line: a stream that breaks behind its first one would be hammered
            wait_s = backoff.next_s()
            log.warning("no directives", error=error, lease=self.has_lease, again_in_s=round(wait_s, 2))
            await asyncio.sleep(wait_s)

    async def _follow(self) -> None:
        assert self._known is not None
        async with self._client.directives(self._known.cursor) as lines:
            self.connected = True
            log.info("following control's directives", after=self._known.cursor)
            async for line in lines:
                self._take(decode(line))

    def _take(self, directive: AnyDirective) -> None:
        """Obey first, then remember, and only then count it as heard."""
        assert self._known is not None
        if isinstance(directive, Keys):
            KeySet.from_jwks(directive.jwks)
        self._on_directive(directive)
        if isinstance(directive, Snapshot):
            KeySet.from_jwks(directive.jwks)  # Its revocations are obeyed all the same.
        known = self._known.after(directive, now=time.time())
        if known is not self._known:
            self._known = known
            self._changed.set()
        self._heard = now_s()

    async def _save_for_ever(self) -> None:
        """Keep what is known, apart from the following: a slow disk must not hold up a revocation."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._save()
            except OSError as error:
                log.error("what control said cannot be kept", path=str(self._state_dir), error=str(error))  # noqa: TRY400 a full disk needs no traceback
                self._changed.set()
                await asyncio.sleep(SAVE_WAIT_S)

    async def _save(self) -> None:
        known = self._known
        assert known is not None
        saving = spawn("save membership", asyncio.to_thread(self._write, known))
        try:
            await asyncio.shield(saving)
        except asyncio.CancelledError:
            await asyncio.wait([saving])  # or this older state could be written over a newer one
            raise
        self._saved = known

    def _write(self, known: Membership) -> None:
        membership.save(self._state_dir, known)
        if self._joins and not (self._home / membership.FILE).exists():
            membership.save(self._home, known)

    def _save_last(self) -> None:
        """A revocation heard in the last moment must not be forgotten over a restart."""
        if self._known is not None and self._known is not self._saved:
            try:
                self._write(self._known)
            except OSError as error:
                log.error("what control said last is lost", path=str(self._state_dir), error=str(error))  # noqa: TRY400 as above
