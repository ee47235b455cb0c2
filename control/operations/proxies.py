"""Proxies: joining, and the stream of directives that each follows."""

from collections.abc import AsyncGenerator, Sequence

import msgspec
import structlog

from control.credentials import digest, new_join_token
from control.domain.results import Failure, Reason, Result, Success
from control.keys import jwks
from control.services import Services
from control.store import directives, grants, keys, locks, proxies
from control.store.proxies import JoinToken, Proxy
from control.store.signals import wait
from control.times import SECOND
from proxy.contract.directive import (
    HEARTBEAT_S,
    AnyDirective,
    Extension,
    Heartbeat,
    Joined,
    Joining,
    Revocation,
    Snapshot,
)
from proxy.contract.proof import public_key
from proxy.contract.settings import Name

JOIN_TOKEN_S = 3_600
AT_ONCE = 500
"""Directives read in one go."""

NOT_JOINED = Failure(
    Reason.BAD_JOIN_TOKEN,
    "the join token is unknown, used, expired, or not for this proxy; ask for one with `curfew-control join-token`",
)

BAD_NAME = Failure(Reason.INVALID, "a proxy's name has lower-case letters, digits, '-', '_' and '.', at most 63")

TAKEN = Failure(
    Reason.CONFLICT,
    "a proxy of this name has joined with another key; to replace it, ask for a join token for this name: "
    "`curfew-control join-token --proxy NAME`",
)

log = structlog.get_logger(__name__)


async def new_token(services: Services, *, proxy: str | None, by: str) -> Result[tuple[str, int]]:
    """A join token, shown once, and when it expires. With `proxy`, only for the proxy of this name."""
    if proxy is not None and not _is_name(proxy):
        return BAD_NAME
    now = services.clock()
    new = new_join_token()
    token = JoinToken(
        digest=new.digest, proxy=proxy, created_at=now, created_by=by, expires_at=now + JOIN_TOKEN_S * SECOND
    )
    async with services.store.write() as tx:
        await proxies.add_join_token(tx, token)
    log.info("join token made", proxy=proxy, by=by)
    return Success((new.text, token.expires_at))


async def join(services: Services, joining: Joining) -> Result[Joined]:
    """Register a proxy's public key.

    A name that has joined before gets another key only with a join token made for this very name: a token for any
    proxy must not be enough to take the place of one.
    """
    if (fault := _fault(joining)) is not None:
        return fault
    now = services.clock()
    async with services.store.write() as tx:
        token = await proxies.find_join_token(tx, digest(joining.join_token), proxy=joining.name, now=now)
        if token is None:
            return NOT_JOINED
        proxy = await proxies.find(tx, joining.name)
        if proxy is None:
            await proxies.add(tx, joining.name, joining.public_key, now)
        elif proxy.keys[0] != joining.public_key:
            if token.proxy is None:
                return TAKEN
            await proxies.replace_key(tx, joining.name, joining.public_key, now)
        await proxies.use_join_token(tx, token, proxy=joining.name, now=now)
        key_set = jwks(await keys.everything(tx), now)
    log.info("proxy joined", proxy=joining.name, again=proxy is not None)
    settings = services.settings
    return Success(Joined(issuer=settings.issuer, audience=settings.audience, jwks=key_set))


def _fault(joining: Joining) -> Failure | None:
    if not _is_name(joining.name):
        return BAD_NAME
    try:
        public_key(joining.public_key)
    except ValueError:
        return Failure(Reason.INVALID, "public_key: must be an Ed25519 key, 32 bytes in base64url")
    return None


def _is_name(text: str) -> bool:
    try:
        msgspec.convert(text, Name)
    except msgspec.ValidationError:
        return False
    return True


async def page(services: Services, *, after: str | None, limit: int) -> tuple[Sequence[Proxy], str | None]:
    """Proxies by name, and where the next page starts."""
    async with services.store.read() as tx:
        found = await proxies.page(tx, after=after, limit=limit + 1)
    return found[:limit], found[limit - 1].name if len(found) > limit else None


async def follow(services: Services, proxy: str, after: int) -> AsyncGenerator[AnyDirective, None]:
    """The directives behind `after`: a snapshot, what was missed, then each as it is committed, and heartbeats.

    It ends when the service stops. What another process has written is found at the next heartbeat.
    """
    services.presence.opened(proxy)
    try:
        with services.store.signals.listen(directives.TOPIC) as changed:
            snapshot = await _snapshot(services, after)
            yield snapshot
            position = snapshot.cursor
            while not services.stopping.is_set():
                async with services.store.read() as tx:
                    found = await directives.after(tx, position, AT_ONCE)
                for directive in found:
                    position = directive.cursor
                    yield directive
                if not found:
                    services.presence.told(proxy, services.clock())
                    yield Heartbeat(cursor=position, at=services.clock())
                    await wait(changed, HEARTBEAT_S)
    finally:
        services.presence.closed(proxy)


async def _snapshot(services: Services, after: int) -> Snapshot:
    """All that is in force. Its cursor is `after`, so that a kill that the proxy missed still comes behind it.

    A proxy that comes for the first time (0), or knows a later cursor than there is (the books were restored from an
    older copy), starts at the newest.
    """
    now = services.clock()
    async with services.store.read() as tx:
        last = await directives.last(tx)
        revoked = [
            Revocation(
                grant=grant.id,
                expires_at=grant.expires_at / SECOND,
                by=grant.revoked_by or "",
                decided_at=grant.revoked_at or now,
            )
            for grant in await grants.revoked(tx, now)
        ]
        extended = [
            Extension(
                grant=grant.id,
                expires_at=grant.expires_at / SECOND,
                by=grant.extended_by or "",
                decided_at=grant.extended_at or now,
            )
            for grant in await grants.extended(tx, now)
        ]
        locked = [lock.told() for lock in await locks.in_force(tx, now)]
        key_set = jwks(await keys.everything(tx), now)
    cursor = after if 0 < after <= last else last
    return Snapshot(cursor=cursor, at=now, revoked=revoked, jwks=key_set, locks=locked, extended=extended)
