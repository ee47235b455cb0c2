"""Who says which grants hold: a control service that is followed, or a key set in a file.

Owns the key set in force and turns directives into what the registry does. It never speaks HTTP itself
(see `proxy.control_link`).
"""

import asyncio
import contextlib
import functools
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy import config, membership
from proxy.config import ProxySettings
from proxy.contract.directive import (
    AnyDirective,
    Extend,
    Extension,
    Keys,
    Kill,
    Lock,
    Reap,
    Revocation,
    Revoke,
    Snapshot,
    Unlock,
)
from proxy.contract.proof import public_text
from proxy.contract.settings import SettingsError
from proxy.contract.token import KeySet, KeySetError
from proxy.control_link import ControlLink, ControlLinkError
from proxy.journal import Journal
from proxy.membership import MembershipError
from proxy.places import Place, of_single, of_workers_ever
from proxy.quota import Quota
from proxy.registry import Registry
from proxy.shared import Authority
from proxy.shipping import Shipper
from proxy.tasks import spawn

LEASE_LOOK_S = 0.25
"""How late it is noticed at most that the lease is lost."""

log = structlog.get_logger(__name__)


class ControlSide:
    """The source of keys, revocations and the lease."""

    def __init__(
        self,
        settings: ProxySettings,
        *,
        key: Ed25519PrivateKey,
        journal: Journal,
        registry: Registry,
        environment: Mapping[str, str] = os.environ,
        place: Place | None = None,
        on_reap: Callable[[Reap], object] = lambda _: None,
        on_revoked: Callable[[str], object] = lambda _: None,
        on_extended: Callable[[Extension], object] = lambda _: None,
    ) -> None:
        """`on_reap` ends what another proxy has left; `on_revoked` and `on_extended` hear of grants, sessions or not.

        Raises SettingsError where the key set's file cannot be used.
        """
        self._on_reap = on_reap
        self._on_revoked = on_revoked
        self._on_extended = on_extended
        self._registry = registry
        self._settings = settings
        self._place = place or of_single(Path(settings.state_dir))
        self._authority: Authority | None = None
        self._link: ControlLink | None = None
        self._had_lease = False
        if settings.control is None:
            self._read_file(settings)
        else:
            self._link = self._follow(settings, settings.control, key, journal, environment)

    def _follow(
        self,
        settings: ProxySettings,
        control: config.Control,
        key: Ed25519PrivateKey,
        journal: Journal,
        environment: Mapping[str, str],
    ) -> ControlLink:
        token = control.join_token
        try:
            return ControlLink(
                name=settings.name,
                url=control.url,
                ca_file=control.ca_file,
                join_token=None if token is None else functools.partial(config.read_secret, token, environment),
                state_dir=self._place.own,
                home=self._place.home,
                joins=self._place.first,
                key=key,
                journal=journal,
                on_directive=self._obey,
            )
        except ControlLinkError as error:
            raise SettingsError(str(error)) from error

    def authority(self) -> Authority | None:
        """Whose grants count; None before that is known."""
        return self._authority

    def has_lease(self) -> bool:
        """Whether control can be heard; always, where there is none."""
        return self._link is None or self._link.has_lease

    @property
    def quota(self) -> Quota | None:
        """Control's count of sessions; None where there is no control."""
        return None if self._link is None else self._link.quota

    async def run(self) -> None:
        """Follow control for as long as the process runs."""
        if self._link is None:
            return
        watching = spawn("lease", self._watch_lease())
        try:
            await self._link.run()
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    async def _watch_lease(self) -> None:
        while True:
            self._look_at_lease()
            await asyncio.sleep(LEASE_LOOK_S)

    def _look_at_lease(self) -> None:
        """While there is no lease, end the sessions whose targets want it so."""
        if self.has_lease():
            self._had_lease = True
            return
        if self._had_lease:
            log.error("the lease is lost: control cannot be heard", sessions=len(self._registry))
        self._had_lease = False
        self._registry.end_without_lease(decided_at=time.time_ns())

    def ships(self, journal: Journal) -> Shipper | None:
        """What ships another journal to control; None where there is no control."""
        return None if self._link is None else self._link.ships(journal)

    def reload(self, settings: ProxySettings) -> None:
        """Read the key set's file anew. Raises SettingsError."""
        if settings.control is None:
            self._read_file(settings)

    def _read_file(self, settings: ProxySettings) -> None:
        path = settings.jwks_file or ""
        try:
            keys = KeySet.from_jwks(Path(path).read_bytes())
        except (OSError, KeySetError) as error:
            raise SettingsError(f"proxy.jwks_file: {path}: {error}") from error
        self._enforce(Authority(issuer=settings.issuer, audience=settings.audience, keys=keys), time.time_ns())

    def _enforce(self, authority: Authority, decided_at: int) -> None:
        """From here on these keys count, for the sessions that run too."""
        self._authority = authority
        self._registry.withdraw_all_but(authority.keys, decided_at=decided_at)

    def _obey(self, directive: AnyDirective) -> None:
        self._look_at_lease()  # What comes now brings it back, but not what was lost with it (a machine that slept).
        match directive:
            case Snapshot():
                self._take_snapshot(directive)
            case Keys():
                self._take_keys(directive.jwks, directive.at)
            case Revoke(grant=grant, expires_at=expires_at, by=by, at=at):
                self._revoke(Revocation(grant=grant, expires_at=expires_at, by=by, decided_at=at))
            case Kill():
                self._registry.kill(directive.session, by=directive.by, decided_at=directive.at)
            case Extend():
                self._extend(directive.extension)
            case Lock():
                self._registry.lock(directive.lock)
            case Unlock():
                self._registry.unlock(directive.lock)
            case Reap() if self._place.first:  # One process of several does it.
                self._on_reap(directive)
            case _:
                pass

    def _revoke(self, one: Revocation) -> None:
        self._registry.revoke(one.grant, expires_at=one.expires_at, by=one.by, decided_at=one.decided_at)
        self._on_revoked(one.grant)

    def _extend(self, extension: Extension) -> None:
        self._registry.extend(extension)
        self._on_extended(extension)

    def _take_snapshot(self, snapshot: Snapshot) -> None:
        for one in snapshot.revoked:  # First: they count, whatever is wrong with the keys.
            self._revoke(one)
        self._registry.replace_locks(snapshot.locks)
        for extension in snapshot.extended:
            self._extend(extension)
        self._take_keys(snapshot.jwks, snapshot.at)

    def _take_keys(self, jwks: str, decided_at: int) -> None:
        """Raises KeySetError: a key set that cannot be read leaves the one before in force."""
        known = self._link.known if self._link is not None else None
        if known is None:
            return
        issuer, audience = self._settings.issuer or known.issuer, self._settings.audience or known.audience
        self._enforce(Authority(issuer=issuer, audience=audience, keys=KeySet.from_jwks(jwks)), decided_at)


def gather(settings: ProxySettings, key: Ed25519PrivateKey) -> None:
    """Bring together what the workers of an earlier run were told by control. Raises SettingsError."""
    if settings.control is None:
        return
    home = Path(settings.state_dir)
    try:
        membership.gather(home, of_workers_ever(home), proxy=settings.name, public_key=public_text(key.public_key()))
    except (MembershipError, OSError) as error:
        raise SettingsError(str(error)) from error
