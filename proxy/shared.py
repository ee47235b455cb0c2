"""What all sessions of one proxy process share: handed to each, owned by `proxy.server`."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy.account_reach import Reach
from proxy.backstop import Backstop
from proxy.clock import Deadlines
from proxy.config import ProxySettings
from proxy.contract.settings import Host, Target
from proxy.contract.token import KeySet
from proxy.journal import Journal
from proxy.metrics import Metrics
from proxy.pooled import Proofs
from proxy.quota import Quota
from proxy.registry import Registry
from proxy.stop import Keeper
from proxy.tls import ServerTls
from proxy.upstream import Dialler

if TYPE_CHECKING:
    from proxy.accounts import Accounts  # which knows the ways to targets, and so this module


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetLink:
    """A target and the two ways to it: for sessions, and for ending them."""

    name: str
    settings: Target
    dialler: Dialler
    keepers: Mapping[Host, Keeper]
    """One for each server (`Target.servers`): a session's backend is ended by the keeper of the one that it is on."""
    reach: Reach
    """The keeper's login again, for jobs on accounts."""
    backstop: Backstop
    proofs: Proofs = field(default_factory=Proofs)
    """Behind a pooler: that it pools sessions."""

    @property
    def pooled(self) -> bool:
        """Whether there is a pooler between sessions and their backends."""
        return self.settings.pooler != "none"

    def keepers_behind(self, host: Host) -> list[Keeper]:
        """The keepers, one of which is on the server that `host` leads to."""
        return list(self.keepers.values()) if self.settings.keeper.host is not None else [self.keepers[host]]

    def keepers_of(self, server: str | None) -> list[Keeper]:
        """The keeper of the server that a record names; all of them where it names none of ours."""
        named = [keeper for host, keeper in self.keepers.items() if str(host) == server]
        return named or list(self.keepers.values())

    def has_server(self, server: str | None) -> bool:
        """Whether the server that a record names is one of ours; a record that names none is of a target with one."""
        return server is None or any(str(host) == server for host in self.keepers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Who signs the tokens that this proxy accepts."""

    issuer: str
    audience: str
    keys: KeySet


async def nowhere(_pid: int, _secret: bytes, _address: str) -> bool:
    """Where a cancel request with an unknown key goes in a proxy of one process."""
    return False


@dataclass(slots=True, kw_only=True)
class Shared:
    """What all sessions share. Reloading replaces `settings`, `tls` and `targets`; running sessions keep theirs."""

    settings: ProxySettings
    tls: ServerTls
    targets: Mapping[str, TargetLink]
    authority: Callable[[], Authority | None]
    """The key set in force; None before one is known."""
    has_lease: Callable[[], bool]
    registry: Registry
    journal: Journal
    key: Ed25519PrivateKey
    deadlines: Deadlines
    metrics: Metrics
    quota: Quota | None = None
    """Control's count of the sessions of grants that are limited; None where there is no control."""
    accounts: "Accounts"
    cancel_elsewhere: Callable[[int, bytes, str], Awaitable[bool]] = nowhere
    """Cancels in another worker, by pid, secret and address; whether the key was known there."""
