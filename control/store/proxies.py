"""Queries: proxies, their public keys, and the tokens that they join with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from control.store.engine import Transaction
from control.store.tables import join_tokens, proxies, proxy_keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A proxy that has joined. `keys` are all public keys it ever had, the one in force first."""

    name: str
    joined_at: int
    last_seen_at: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """What one proxy may join with, once. With `proxy`, only the proxy of that name."""

    digest: str
    proxy: str | None
    created_at: int
    created_by: str
    expires_at: int


async def _with_keys(tx: Transaction, query: sa.Select[tuple[object, ...]]) -> Sequence[Proxy]:
    rows = (await tx.connection.execute(query)).all()
    names = [row.name for row in rows]
    of: dict[str, list[str]] = {name: [] for name in names}
    in_force_first = proxy_keys.c.replaced_at.is_not(None), proxy_keys.c.added_at.desc()
    keys = sa.select(proxy_keys).where(proxy_keys.c.proxy.in_(names)).order_by(*in_force_first)
    for key in await tx.connection.execute(keys):
        of[key.proxy].append(key.public_key)
    return [
        Proxy(name=row.name, joined_at=row.joined_at, last_seen_at=row.last_seen_at, keys=tuple(of[row.name]))
        for row in rows
    ]


async def find(tx: Transaction, name: str) -> Proxy | None:
    """The proxy of this name."""
    found = await _with_keys(tx, sa.select(proxies).where(proxies.c.name == name))
    return found[0] if found else None


async def page(tx: Transaction, *, after: str | None, limit: int) -> Sequence[Proxy]:
    """Proxies by name, those behind `after`."""
    query = sa.select(proxies).order_by(proxies.c.name).limit(limit)
    return await _with_keys(tx, query if after is None else query.where(proxies.c.name > after))


async def add(tx: Transaction, name: str, public_key: str, now: int) -> None:
    """A new proxy with its key."""
    await tx.connection.execute(sa.insert(proxies).values(name=name, joined_at=now, last_seen_at=now))
    await tx.connection.execute(sa.insert(proxy_keys).values(proxy=name, public_key=public_key, added_at=now))


async def replace_key(tx: Transaction, name: str, public_key: str, now: int) -> None:
    """Another key for a proxy. The old ones stay: they prove what they signed."""
    old = (proxy_keys.c.proxy == name) & proxy_keys.c.replaced_at.is_(None)
    await tx.connection.execute(sa.update(proxy_keys).where(old).values(replaced_at=now))
    again = (proxy_keys.c.proxy == name) & (proxy_keys.c.public_key == public_key)
    revived = await tx.connection.execute(sa.update(proxy_keys).where(again).values(replaced_at=None, added_at=now))
    if not revived.rowcount:
        await tx.connection.execute(sa.insert(proxy_keys).values(proxy=name, public_key=public_key, added_at=now))


async def seen(tx: Transaction, name: str, now: int) -> None:
    """The proxy was heard of."""
    await tx.connection.execute(sa.update(proxies).where(proxies.c.name == name).values(last_seen_at=now))


async def heard(tx: Transaction, seen: Mapping[str, int]) -> None:
    """When these proxies were heard last. An older time than is known counts too: the clock was set back."""
    if seen:
        rows = [{"key": name, "at": at} for name, at in seen.items()]
        those = sa.update(proxies).where(proxies.c.name == sa.bindparam("key"))
        await tx.connection.execute(those.values(last_seen_at=sa.bindparam("at")), rows)


async def last_seen(tx: Transaction) -> Mapping[str, int]:
    """When each proxy was heard last, by name."""
    rows = await tx.connection.execute(sa.select(proxies.c.name, proxies.c.last_seen_at))
    return {row.name: row.last_seen_at for row in rows}


async def add_join_token(tx: Transaction, token: JoinToken) -> None:
    """A new join token."""
    await tx.connection.execute(
        sa.insert(join_tokens).values(
            digest=token.digest,
            proxy=token.proxy,
            created_at=token.created_at,
            created_by=token.created_by,
            expires_at=token.expires_at,
        )
    )


async def find_join_token(tx: Transaction, digest: str, *, proxy: str, now: int) -> JoinToken | None:
    """The token with this digest, if it is unused, still good, and for this proxy."""
    good = (
        (join_tokens.c.digest == digest)
        & join_tokens.c.used_at.is_(None)
        & (join_tokens.c.expires_at > now)
        & (join_tokens.c.proxy.is_(None) | (join_tokens.c.proxy == proxy))
    )
    row = (await tx.connection.execute(sa.select(join_tokens).where(good))).first()
    if row is None:
        return None
    return JoinToken(
        digest=row.digest,
        proxy=row.proxy,
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
    )


async def use_join_token(tx: Transaction, token: JoinToken, *, proxy: str, now: int) -> None:
    """Use the token up."""
    mine = join_tokens.c.digest == token.digest
    await tx.connection.execute(sa.update(join_tokens).where(mine).values(used_at=now, used_by=proxy))
