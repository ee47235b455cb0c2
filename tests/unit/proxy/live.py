"""A session as the registry knows one: it notes what it is told."""

import secrets
from dataclasses import dataclass, field

from proxy.contract.directive import Extension
from proxy.contract.grant import Grant
from proxy.contract.record import EndReason
from proxy.contract.token import VerifyingKey
from tests.harness import tokens


def key_of(signer: tokens.Signer) -> VerifyingKey:
    """The key that its tokens are verified with."""
    key = signer.keys.get(signer.kid)
    assert key is not None
    return key


@dataclass(eq=False)
class Session:
    """One of one grant."""

    grant: Grant
    signed_by: VerifyingKey = field(default_factory=lambda: key_of(tokens.Signer()))
    id: str = field(default_factory=lambda: secrets.token_hex(4))
    stopped: list[tuple[EndReason, str | None, int]] = field(default_factory=list)
    extended: list[float] = field(default_factory=list)
    needs_lease: bool = False
    finish_s: float = 0.0

    def stop(self, reason: EndReason, *, by: str | None, decided_at: int, at_once: bool = False) -> None:  # noqa: ARG002 the protocol's
        """Note it."""
        self.stopped.append((reason, by, decided_at))

    def extend(self, extension: Extension) -> None:
        """Note it."""
        self.extended.append(extension.expires_at)

    async def cancel_running(self, address: str | None) -> None:
        """Never asked here."""
        raise AssertionError(address)

    def uses(self, link: object) -> bool:
        """Never asked here."""
        raise AssertionError(link)
