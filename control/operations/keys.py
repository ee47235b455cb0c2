"""The signing keys: the first one, rotation, what is shown of them."""

from collections.abc import Sequence

import structlog

from control.domain import keyring
from control.domain.keyring import SigningKey
from control.keys import KeyRingError, jwks
from control.services import Services
from control.store import directives, keys
from control.store.engine import Transaction
from proxy.contract.directive import Keys

log = structlog.get_logger(__name__)


async def current_key(tx: Transaction, now: int) -> SigningKey:
    """The key that signs at `now`. Raises KeyRingError where the service was never initialised."""
    key = keyring.current(await keys.everything(tx), now)
    if key is None:
        raise KeyRingError("there is no signing key; run `curfew-control init`")
    return key


async def everything(services: Services) -> Sequence[tuple[SigningKey, keyring.State]]:
    """The keys and where each stands, oldest first."""
    now = services.clock()
    async with services.store.read() as tx:
        found = await keys.everything(tx)
    return [(key, keyring.state(key, found, now)) for key in found]


async def key_set(services: Services) -> str:
    """The JWK set of now, as JSON."""
    async with services.store.read() as tx:
        return jwks(await keys.everything(tx), services.clock())


async def rotate(services: Services, *, by: str, compromised: bool = False) -> SigningKey:
    """A new signing key, told to every proxy. It signs once they have heard of it; the old one signs until then.

    Where the old ones are `compromised` they are gone at once, with every token that they signed, and whoever has a
    token asks for another. Keys that nobody needs any more are forgotten on the way.
    """
    now = services.clock()
    async with services.store.write() as tx:
        before = await keys.everything(tx)
        at_once = compromised or not before
        new = services.ring.create(now=now, active_from=now if at_once else now + keyring.ANNOUNCE_NS)
        await keys.add(tx, new)
        after = [*before, new]
        unneeded = [key.kid for key in before if compromised or key not in keyring.published(after, now)]
        await keys.remove(tx, unneeded)
        kept = [key for key in after if key.kid not in unneeded]
        await directives.add(tx, Keys(cursor=0, at=now, jwks=jwks(kept, now)))
    for kid in unneeded:
        services.ring.remove(kid)
    log.info("signing key made", kid=new.kid, active_from=new.active_from, forgotten=unneeded, by=by)
    return new
