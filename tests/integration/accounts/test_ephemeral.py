"""Ephemeral accounts: made for the first session of a grant, gone after the last."""

import asyncio
import hashlib

import pytest

from proxy.account_names import account_name, read_mark
from proxy.dial import UpstreamError
from tests.harness.postgres import Cluster
from tests.integration.accounts.conftest import MakeStand
from tests.integration.accounts.stand import ephemeral, new_grant, roles_like


async def test_from_the_first_session_to_the_last(cluster: Cluster, make_stand: MakeStand) -> None:
    """The role has the preset's rights and the grant's end, and is gone when nobody needs it."""
    async with make_stand(ephemeral()) as stand:
        made = new_grant()
        first, second = await asyncio.gather(stand.connect(made), stand.connect(made, "stock"))
        name = account_name(made)
        assert await first.value("SELECT session_user") == name
        assert await second.value("SELECT note FROM shop.orders") == "first"
        assert b"permission denied" in await first.refused("DELETE FROM shop.orders")
        ((until, comment),) = await cluster.sql(
            "SELECT rolvaliduntil, shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = $1", name
        )
        assert until.timestamp() == made.expires_at
        assert made.id in comment
        first.leave()
        assert await second.value("SELECT 1") == "1"
        second.leave()
        await stand.gone(made)
        assert stand.metrics.accounts == {"made": 1, "dropped": 1}


HOSTILE = [
    "o'brien",
    'double "quotes"',
    "back\\slash\\'; DROP TABLE shop.orders; --",
    "new\nline\ttab\x1b[31m",
    "😀😀😀 emoji und Ümläute",
    '"; DROP DATABASE sales; --',
    "x" * 63,
    "é" * 31,
    "{grant}",
]


@pytest.mark.parametrize("person", HOSTILE)
async def test_names_of_any_kind(cluster: Cluster, make_stand: MakeStand, person: str) -> None:
    """Whatever a person is called, the account is theirs, the statements are ours, and its own name is harmless."""
    note = "COMMENT ON ROLE colleague IS 'x'; DO $$ BEGIN PERFORM {person}, {grant}, '{1,2}'::int[]; END $$"
    guard = f"DO $$ BEGIN ASSERT md5({{person}}) = '{hashlib.md5(person.encode()).hexdigest()}'; END $$"
    async with make_stand(ephemeral(setup_sql=["GRANT team TO {account}", note.partition("; ")[2], guard])) as stand:
        made = new_grant(person=person)
        working = await stand.connect(made)
        name = account_name(made)
        assert await working.value("SELECT session_user") == name
        assert name.isascii()
        assert name.isprintable()
        assert len(name) <= 63
        assert name.endswith(made.id)
        ((comment,),) = await cluster.sql(
            "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = $1", name
        )
        mark = read_mark(comment)
        assert mark is not None
        assert (mark.person, mark.grant) == (person, made.id)
        working.leave()
        await stand.gone(made)


async def test_a_grant_that_is_over_makes_nothing(cluster: Cluster, make_stand: MakeStand) -> None:
    """However it came so far."""
    async with make_stand(ephemeral()) as stand:
        made = new_grant(lasts_s=-1)
        with pytest.raises(UpstreamError, match="is over"):
            await stand.connect(made)
        assert not await roles_like(cluster, account_name(made))
