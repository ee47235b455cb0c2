"""The signing keys' life: announced, current, retired, forgotten. Dates only; the keys themselves are `control.keys`'.

A new key is announced (in the JWKS, and to every proxy) before it signs: `active_from` lies a lease ahead, so that
every proxy that is still admitting anybody has heard of it by then. The newest key whose time has come is the current
one; an older one is retired, and stays in the JWKS until the last token that it signed has expired.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from control.times import SECOND
from proxy.contract.directive import LEASE_S

ANNOUNCE_NS = int(LEASE_S) * SECOND


class State(enum.StrEnum):
    """Where a signing key stands."""

    ANNOUNCED = "announced"
    CURRENT = "current"
    RETIRED = "retired"
    FORGOTTEN = "forgotten"


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """The public side of a key in the ring. `x` is the public key as RFC 8037 writes it."""

    kid: str
    x: str
    created_at: int
    active_from: int
    signed_until: int = 0
    """When the last token that it signed expires."""


def current(keys: Sequence[SigningKey], now: int) -> SigningKey | None:
    """The key that signs at `now`."""
    due = [key for key in keys if key.active_from <= now]
    return max(due, key=lambda key: (key.active_from, key.created_at), default=None)


def state(key: SigningKey, keys: Sequence[SigningKey], now: int) -> State:
    """Where `key`, one of `keys`, stands at `now`."""
    if key.active_from > now:
        return State.ANNOUNCED
    if key == current(keys, now):
        return State.CURRENT
    return State.RETIRED if key.signed_until > now else State.FORGOTTEN


def published(keys: Sequence[SigningKey], now: int) -> list[SigningKey]:
    """The keys that belong into the JWKS at `now`."""
    return [key for key in keys if state(key, keys, now) is not State.FORGOTTEN]
