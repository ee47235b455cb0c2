"""Who may end whom, on the oldest and the newest PostgreSQL: a session that could not be ended is refused."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from proxy.config import read_secret
from proxy.stop import Keeper, KeeperError
from tests.conftest import MakeProxy
from tests.harness import roles
from tests.harness.binaries import version_bin
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy
from tests.harness.roles import Login
from tests.harness.waiting import eventually
from tests.harness.wire import Refused
from tests.integration.upstream.targets import dialler_of, log_in, profile_of, target_of

BOSS = Login(user="boss", password="may do everything")
OTHER = Login(user="other_keeper", password="another name")
KEEPER_SQL = Path(__file__).resolve().parents[3] / "deploy" / "keeper.sql"
MAX_CONNECTIONS = 12


@pytest.fixture(scope="module", params=[14, 15, 18])
def server(request: pytest.FixtureRequest, ca: Authority) -> Iterator[Cluster]:
    """A PostgreSQL of that version with few connection slots, the usual logins, and a superuser besides."""
    few = {"max_connections": str(MAX_CONNECTIONS), "superuser_reserved_connections": "2", "max_wal_senders": "0"}
    if request.param >= 16:
        few["reserved_connections"] = "2"
    with Cluster(ca, programs=version_bin(request.param), settings=few) as cluster:
        roles.install(cluster)
        cluster.psql(f"CREATE ROLE {BOSS.user} LOGIN SUPERUSER PASSWORD :'password'", password=BOSS.password)
        yield cluster


def version(server: Cluster) -> int:
    """PostgreSQL's major one."""
    return int((server.data / "PG_VERSION").read_text())


async def alive(server: Cluster, pid: int) -> bool:
    """Whether the backend is there."""
    return bool((await server.sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid))[0][0])


async def test_a_superusers_backend(server: Cluster, tmp_path: Path) -> None:
    """The keeper knows before anybody asks that it cannot end it; a superuser keeper can."""
    profile = profile_of(BOSS, tmp_path)
    boss = await log_in(dialler_of(server, tmp_path), profile)
    keeper = Keeper("orders", target_of(server, tmp_path, access={"boss": profile}), read_secret=read_secret)
    await keeper.start()
    assert keeper.unendable == {
        BOSS.user: f"it cannot end backends of {BOSS.user!r}, a superuser: only a superuser can"
    }
    seen = await keeper.look_up(boss.pid)
    assert (seen.user, seen.database, seen.endable) == (BOSS.user, "postgres", False)
    assert 0 <= seen.age_s < 60
    with pytest.raises(KeeperError):
        await keeper.stop(boss.pid, seen.started, within_s=0.5)
    assert await alive(server, boss.pid)
    await keeper.close()
    like = Keeper("orders", target_of(server, tmp_path, keeper=BOSS, access={"boss": profile}), read_secret=read_secret)
    await like.start()
    assert like.warnings == []
    assert (await like.look_up(boss.pid)).endable
    assert (await like.stop(boss.pid, seen.started)).seen
    assert not await alive(server, boss.pid)
    await like.close()
    boss.close()


async def test_least_privilege(server: Cluster, tmp_path: Path) -> None:
    """What deploy/keeper.sql gives, by another name and run twice, is enough and no more."""
    for _ in range(2):
        server.psql(KEEPER_SQL.read_text(), keeper=OTHER.user)
    server.psql(f"ALTER ROLE {OTHER.user} PASSWORD :'password'", password=OTHER.password)
    member = "SELECT roleid::regrole FROM pg_auth_members WHERE member = :'name'::regrole"
    reserved = {"pg_use_reserved_connections"} if version(server) >= 16 else set()
    given = server.psql(member, name=OTHER.user).split()
    assert (len(given), set(given)) == (2 + len(reserved), {"pg_read_all_stats", "pg_signal_backend"} | reserved)
    flags = "rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls"
    assert server.psql(f"SELECT {flags} FROM pg_roles WHERE rolname = :'name'", name=OTHER.user) == "f"
    keeper = Keeper("orders", target_of(server, tmp_path, keeper=OTHER), read_secret=read_secret)
    await keeper.start()
    assert keeper.warnings == []
    victim = await log_in(dialler_of(server, tmp_path), profile_of(roles.APP, tmp_path))
    seen = await keeper.look_up(victim.pid)
    assert seen.endable
    assert (await keeper.stop(victim.pid, seen.started)).transaction == "none"
    await keeper.close()
    victim.close()
    server.psql(f"DROP OWNED BY {OTHER.user}; DROP ROLE {OTHER.user}")


async def test_no_connection_slot(server: Cluster, tmp_path: Path) -> None:
    """A stop needs none. A keeper that loses its connection says why it has no other, and is back when there is room.

    From PostgreSQL 16 on it comes back at once, through the slots that are kept for its like.
    """
    keeper = Keeper("orders", target_of(server, tmp_path), read_secret=read_secret)
    await keeper.start()
    boss = await server.connect(BOSS.user, BOSS.password)
    victim = await log_in(dialler_of(server, tmp_path), profile_of(roles.APP, tmp_path))
    has_reserved_slots = version(server) >= 16
    crowd: list[asyncpg.Connection[asyncpg.Record]] = []
    try:
        await fill(server, crowd)
        gone = await keeper.stop(victim.pid, await keeper.backend_start(victim.pid))
        assert gone.transaction == "none"
        own = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'curfew-keeper'"

        async def lost() -> bool:
            await boss.execute(own)
            await fill(server, crowd)
            return has_reserved_slots or not await boss.fetch(own)

        await eventually(lost)
        if has_reserved_slots:
            await eventually(lambda: keeper.ready)
            assert (await keeper.look_up(boss.get_server_pid())).user == BOSS.user
        else:
            with pytest.raises(KeeperError, match=r"53300 .*remaining connection slots are reserved"):
                await keeper.backend_start(1, within_s=1)
            assert not keeper.ready
    finally:
        for one in [*crowd, boss]:
            await one.close()
    await eventually(lambda: keeper.ready)
    await keeper.close()
    victim.close()


async def fill(server: Cluster, crowd: "list[asyncpg.Connection[asyncpg.Record]]") -> None:
    """Take every connection slot that an ordinary login can have."""
    with contextlib.suppress(asyncpg.TooManyConnectionsError):
        for _ in range(MAX_CONNECTIONS):
            crowd.append(await server.connect(roles.APP.user, roles.APP.password))
        raise AssertionError("there is always room for one more")


# A whole proxy


@pytest.fixture
def bossy(postgres: Cluster, make_proxy: MakeProxy, tmp_path: Path) -> Iterator[Proxy]:
    """A proxy with a superuser profile besides the usual ones, and the usual keeper."""
    postgres.psql(f"CREATE ROLE {BOSS.user} LOGIN SUPERUSER PASSWORD :'password'", password=BOSS.password)
    logins = {"boss": profile_of(BOSS, tmp_path), "app": profile_of(roles.APP, tmp_path)}
    access = {
        name: {"user": login.user, "password": {"file": login.password.file if login.password else ""}}
        for name, login in logins.items()
    }
    proxy = make_proxy(postgres, target={"access": access})
    yield proxy
    proxy.close()
    postgres.psql(f"DROP ROLE {BOSS.user}")


async def test_sessions_that_could_not_be_ended(bossy: Proxy, postgres: Cluster) -> None:
    """Refused, and said at the start, in /readyz and in the log; the other profiles work. All is well once it is."""
    why = f"it cannot end backends of '{BOSS.user}', a superuser: only a superuser can"
    assert bossy.ops("/readyz") == (503, f"target orders: sessions are refused: {why}\n")
    assert "sessions are refused, because they could not be ended" in bossy.log()
    with pytest.raises(Refused) as caught:
        async with bossy.wire(bossy.token(profile="boss")):
            pass
    assert caught.value.fields["C"] == "08006"
    assert "the keeper may not end backends of 'boss'" in bossy.log()
    async with bossy.wire() as wire:
        assert await wire.value("SELECT 1") == "1"
    postgres.psql(f"ALTER ROLE {BOSS.user} NOSUPERUSER")
    async with bossy.wire(bossy.token(profile="boss")) as wire:
        assert await wire.value("SELECT current_user") == BOSS.user
    await eventually(lambda: bossy.ops("/readyz") == (200, "ok\n"))
    postgres.psql(f"ALTER ROLE {BOSS.user} SUPERUSER")  # since the keeper was asked last: each session is asked about
    with pytest.raises(Refused):
        async with bossy.wire(bossy.token(profile="boss")):
            pass
