"""Elevation: the person's own role has the profile's rights while the grant lasts, and not a moment longer."""

import asyncpg
import pytest

from proxy.account_names import account_name
from proxy.dial import UpstreamError
from tests.harness import roles
from tests.harness.postgres import Cluster
from tests.harness.waiting import eventually
from tests.integration.accounts.conftest import MakeStand
from tests.integration.accounts.stand import (
    by_password,
    create_person,
    elevated,
    new_grant,
    person_is_in,
    roles_like,
)

PEOPLE = [
    "alice",
    "o'brien",
    'double "quotes"',
    "back\\slash",
    "new\nline",
    "😀 Ümläut",
    '"; DROP ROLE staff; --',
    "é" * 31,
]


@pytest.fixture
def person(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    """A standing role with no rights of its own."""
    name: str = getattr(request, "param", "alice")
    if not cluster.psql("SELECT 1 FROM pg_roles WHERE rolname = :'name'", name=name):
        create_person(cluster, name)
    return name


@pytest.mark.parametrize("person", PEOPLE, indirect=True)
async def test_by_certificate(cluster: Cluster, make_stand: MakeStand, person: str) -> None:
    """The proxy logs in as the person, who has the rights at once and loses them with the account."""
    async with make_stand(elevated(cluster)) as stand:
        made = new_grant(person=person)
        working = await stand.connect(made)
        assert await working.value("SELECT session_user") == person
        assert await working.value("SELECT note FROM shop.orders") == "first"
        assert await person_is_in(cluster, person) == ["staff", account_name(made)]
        working.leave()
        await stand.gone(made)
        assert await person_is_in(cluster, person) == ["staff"]


async def test_a_session_of_the_persons_own_loses_the_rights_too(
    cluster: Cluster, make_stand: MakeStand, person: str
) -> None:
    """Membership is looked at for each statement: what goes past the proxy ends with the grant as well."""
    shown = cluster.authority.client_context(cluster.authority.client(person, stem="own"))
    own = await asyncpg.connect(host="127.0.0.1", port=cluster.port, user=person, database="sales", ssl=shown)
    async with make_stand(elevated(cluster)) as stand:
        made = new_grant(person=person)
        working = await stand.connect(made)
        assert await own.fetchval("SELECT note FROM shop.orders") == "first"
        working.leave("revoked")
        await stand.gone(made)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await own.fetchval("SELECT note FROM shop.orders")
    await own.close()


async def test_by_password(cluster: Cluster, make_stand: MakeStand) -> None:
    """The role gets one that nobody knows, and has none afterwards; its VALID UNTIL is as it was."""
    name = "bob"
    if not await roles_like(cluster, name):
        cluster.psql(f"CREATE ROLE {name} LOGIN VALID UNTIL '2040-01-01'")
        roles.let_keeper_alter(cluster, name)
    async with make_stand(by_password()) as stand:
        long, short = new_grant(person=name, lasts_s=900), new_grant(person=name, lasts_s=300)
        first, second = await stand.connect(long), await stand.connect(short)
        assert await second.value("SELECT session_user") == name
        assert await until(cluster, name) == long.expires_at
        first.leave("revoked")
        await stand.gone(long)
        assert await until(cluster, name) == short.expires_at
        assert await second.value("SELECT note FROM shop.orders") == "first"
        second.leave()
        await stand.gone(short)
    ((password, valid),) = await cluster.sql(
        "SELECT rolpassword, rolvaliduntil FROM pg_authid WHERE rolname = $1", name
    )
    assert password is None
    assert valid.year == 2040


async def until(cluster: Cluster, name: str) -> float:
    """A role's VALID UNTIL."""
    ((value,),) = await cluster.sql("SELECT rolvaliduntil FROM pg_roles WHERE rolname = $1", name)
    return float(value.timestamp())


@pytest.mark.parametrize(
    ("name", "why"),
    [("nobody_has_this", "no role"), ("postgres", "not to be elevated"), ("curfew_keeper", "not to be elevated")],
)
async def test_who_is_not_elevated(cluster: Cluster, make_stand: MakeStand, name: str, why: str) -> None:
    """A superuser's sessions could not be ended, and the keeper is nobody's."""
    async with make_stand(elevated(cluster)) as stand:
        made = new_grant(person=name)
        with pytest.raises(UpstreamError, match=why) as caught:
            await stand.connect(made)
        assert name not in caught.value.public
        assert not await roles_like(cluster, account_name(made))
        await eventually(lambda: not stand.ledger.entries, what="an empty ledger")
