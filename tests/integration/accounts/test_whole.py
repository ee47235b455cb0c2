"""Accounts in a whole proxy: what people, auditors and operators see, and what is left when it dies."""

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import asyncpg
import pytest

from proxy.account_names import account_name
from proxy.contract.directive import Extend, Extension
from proxy.contract.record import SessionStart
from tests.conftest import MakeProxy
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.tokens import grant
from tests.harness.waiting import eventually
from tests.integration.accounts import stand
from tests.integration.accounts.conftest import HBA
from tests.integration.accounts.stand import create_person, person_is_in, roles_like
from tests.integration.session.governed import Governed, now_ns

Person: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
PERSON = "dba1"


@pytest.fixture(scope="module")
def usual(ca: Authority) -> Iterator[Cluster]:
    """The usual PostgreSQL, to stop and start, with a standing role for the person."""
    with Cluster(ca, hba=HBA) as cluster:
        stand.install(cluster)
        create_person(cluster, PERSON)
        yield cluster


@pytest.fixture
def served(usual: Cluster, ca: Authority, make_proxy: MakeProxy) -> Proxy:
    """A proxy with both kinds of profiles."""
    authority = {"ca_certificate_file": str(ca.file), "ca_key_file": str(ca.key())}
    profiles = {
        "made": {"identity": "ephemeral", "account": {"preset": "ddl", "linger_s": 0}},
        "lifted": {"identity": "elevated", "account": {"preset": "readonly", "linger_s": 0, **authority}},
    }
    return make_proxy(usual, database="sales", target={"access": profiles}, options={"drain_timeout_s": 0.2})


@pytest.fixture
def people() -> Iterator[list[Person]]:
    """Connections that are cut when the test is over, whatever became of them."""
    connected: list[Person] = []
    yield connected
    for one in connected:
        one.terminate()


def token_for(proxy: Proxy, profile: str, lasts_s: float = 600) -> tuple[str, str]:
    """A token for a new grant, and the account it comes to."""
    made = grant(id=new_grant_id(), profile=profile, lasts_s=lasts_s)
    return proxy.signer.token(made, exp=made.expires_at), account_name(made)


def start_of(proxy: Proxy, pid: int) -> SessionStart:
    """The first record of the session with this backend."""
    return next(one for one in proxy.records() if isinstance(one, SessionStart) and one.backend_pid == pid)


async def test_what_is_on_record(usual: Cluster, served: Proxy) -> None:
    """Who logged in, what kind of login it is, and by which account the person's own role has its rights."""
    for profile in ("made", "lifted"):
        token, account = token_for(served, profile)
        connection = await served.connect(token)
        start = start_of(served, connection.get_server_pid())
        assert start.identity == {"made": "ephemeral", "lifted": "elevated"}[profile]
        user = account if profile == "made" else PERSON
        assert (start.upstream_user, await connection.fetchval("SELECT session_user")) == (user, user)
        assert start.account == (None if profile == "made" else account)
        assert await connection.fetchval("SELECT current_setting('curfew.person')") == PERSON
        await connection.close()
        await gone(usual, account)
    assert served.metrics()['curfew_account_events_total{event="dropped"}'] == 2
    assert served.metrics()["curfew_accounts"] == 0


async def gone(cluster: Cluster, name: str, within: float = 20) -> None:
    """Wait until there is no such role."""

    async def is_gone() -> bool:
        return not await roles_like(cluster, name)

    await eventually(is_gone, within=within, what=f"the end of {name}")


@pytest.mark.parametrize("profile", ["made", "lifted"])
async def test_a_grant_that_expires_in_mid_work(usual: Cluster, served: Proxy, profile: str) -> None:
    """The person is told, what was open is rolled back and on record as that, and the account is gone."""
    token, account = token_for(served, profile, lasts_s=4)
    connection = await served.connect(token)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await connection.fetch("SELECT pg_sleep(60)")
    await gone(usual, account)
    (end,) = served.ended()
    assert (end.reason, end.outcome) == ("expired", "rolled back")
    assert await person_is_in(usual, PERSON) == ["staff"]


async def test_the_proxy_is_killed_and_comes_back(usual: Cluster, served: Proxy, people: list[Person]) -> None:
    """The next start ends what the killed one left: the backends, and then the accounts."""
    names = []
    for profile in ("made", "lifted"):
        token, account = token_for(served, profile)
        people.append(await served.connect(token))
        names.append(account)
    assert served.process is not None
    served.signal(signal.SIGKILL)
    served.process.wait()
    assert [await roles_like(usual, name) for name in names] == [[name] for name in names]
    served.start()  # in this very thread: what a thread starts ends with it
    for name in names:
        await gone(usual, name)
    assert await person_is_in(usual, PERSON) == ["staff"]


async def test_the_database_is_down_when_the_grant_ends(usual: Cluster, served: Proxy, people: list[Person]) -> None:
    """The account goes as soon as the database is back."""
    token, account = token_for(served, "made")
    people.append(await served.connect(token))
    await asyncio.to_thread(usual.stop, how=signal.SIGQUIT)
    await eventually(served.ended, what="the session's end")
    await eventually(lambda: "not taken down yet" in served.log(), what="a try")
    usual.start()  # in this very thread: what a thread starts ends with it
    await gone(usual, account)


async def test_a_drain(usual: Cluster, served: Proxy, people: list[Person]) -> None:
    """A proxy that is stopped leaves no account, though its grants last."""
    token, account = token_for(served, "lifted")
    people.append(await served.connect(token))
    served.signal(signal.SIGTERM)
    assert served.process is not None
    await asyncio.to_thread(served.process.wait, within=40)
    assert not await roles_like(usual, account)
    assert (served.state / "accounts.ndjson").read_bytes().count(b'"open"') == (
        served.state / "accounts.ndjson"
    ).read_bytes().count(b'"gone"')


async def test_workers_share_an_account(usual: Cluster, make_proxy: MakeProxy) -> None:
    """Sessions of one grant in two workers: one account, one password, and it goes with the last of them."""
    profiles = {"made": {"identity": "ephemeral", "account": {"preset": "readonly", "linger_s": 0}}}
    proxy = make_proxy(usual, database="sales", target={"access": profiles}, options={"workers": 2})
    token, account = token_for(proxy, "made")
    connections = await asyncio.gather(*(proxy.connect(token) for _ in range(6)))
    assert {await one.fetchval("SELECT session_user") for one in connections} == {account}
    assert len(list(proxy.state.glob("worker-*/accounts.ndjson"))) == 2
    for one in connections[1:]:
        await one.close()
    assert await connections[0].fetchval("SELECT note FROM shop.orders") == "first"
    await connections[0].close()
    await gone(usual, account)


async def test_an_older_token_of_an_extended_grant(usual: Cluster, ca: Authority, tmp_path: Path) -> None:
    """Its account lasts as long as the session does: to the extended end, not to the token's."""
    access = {"made": {"identity": "ephemeral", "account": {"preset": "readonly", "linger_s": 0}}}
    made = grant(id=new_grant_id())
    end = int(time.time()) + 3_600
    async with Governed(usual, ca, tmp_path, database="sales", target={"access": access}) as stand:
        extension = Extension(grant=made.id, expires_at=float(end), by="eve", decided_at=1)
        stand.control.tell(Extend(cursor=1, at=now_ns(), extension=extension))
        kept = stand.proxy.state / "joined.json"
        await eventually(lambda: kept.exists() and made.id.encode() in kept.read_bytes())
        async with await stand.log_in(made.id, lasts_s=60, profile="made"):
            rows = await usual.sql(
                "SELECT extract(epoch FROM rolvaliduntil)::int8 FROM pg_roles WHERE rolname = $1", account_name(made)
            )
            assert [row[0] for row in rows] == [end]
        await gone(usual, account_name(made))
