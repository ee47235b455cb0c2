"""Queries: the public side of the signing keys."""

from collections.abc import Sequence
from dataclasses import asdict

import sqlalchemy as sa

from control.domain.keyring import SigningKey
from control.store.engine import Transaction
from control.store.tables import signing_keys


async def everything(tx: Transaction) -> Sequence[SigningKey]:
    """Every key in the ring, oldest first."""
    rows = await tx.connection.execute(sa.select(signing_keys).order_by(signing_keys.c.created_at))
    return [SigningKey(**row._mapping) for row in rows]  # noqa: SLF001 SQLAlchemy's public name for it


async def add(tx: Transaction, key: SigningKey) -> None:
    """A new key."""
    await tx.connection.execute(sa.insert(signing_keys).values(asdict(key)))


async def signed(tx: Transaction, kid: str, until: int) -> None:
    """The key has signed a token that expires at `until`."""
    later = (signing_keys.c.kid == kid) & (signing_keys.c.signed_until < until)
    await tx.connection.execute(sa.update(signing_keys).where(later).values(signed_until=until))


async def outlast(tx: Transaction, *, before: int, until: int) -> None:
    """A token that expires at `before` may go on to be needed `until`: so are the keys that may have signed it.

    Which one signed it is not kept. None that did is forgotten before, so whatever lasts to `before` may be the one.
    """
    may = (signing_keys.c.signed_until >= before) & (signing_keys.c.signed_until < until)
    await tx.connection.execute(sa.update(signing_keys).where(may).values(signed_until=until))


async def remove(tx: Transaction, kids: Sequence[str]) -> None:
    """Forget keys for good."""
    await tx.connection.execute(sa.delete(signing_keys).where(signing_keys.c.kid.in_(kids)))
