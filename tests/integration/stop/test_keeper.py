"""The keeper's own life: it comes back, it goes on alone, it knows its rights, and it never guesses."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from proxy import backends
from proxy.config import read_secret
from proxy.contract.settings import AccessProfile
from proxy.contract.settings import Keeper as KeeperSettings
from proxy.query import Connection
from proxy.stop import Keeper, KeeperError
from tests.harness import roles
from tests.harness.postgres import SUPERUSER, Cluster
from tests.harness.relay import Relay
from tests.harness.roles import Login
from tests.harness.waiting import eventually
from tests.integration.stop.conftest import Victims
from tests.integration.upstream.targets import Raw, dialler_of, log_in, profile_of, secret_of, target_of

LESSER = Login(user="curfew_lesser", password="may do little")


@pytest.fixture
async def make_keeper(postgres: Cluster, tmp_path: Path) -> AsyncIterator[Callable[..., Keeper]]:
    """Makes keepers on the shared server with a changed target; they are closed in the end."""
    made: list[Keeper] = []

    def make(**changed: Any) -> Keeper:  # noqa: ANN401 any field of Target
        made.append(Keeper("orders", target_of(postgres, tmp_path, **changed), read_secret=read_secret))
        return made[-1]

    yield make
    for keeper in made:
        await keeper.close()


async def keepers(postgres: Cluster) -> list[int]:
    """The pids of all keepers' backends, the newest first: other tests' proxies have keepers on the server too."""
    newest = "SELECT pid FROM pg_stat_activity WHERE application_name = 'curfew-keeper' ORDER BY backend_start DESC"
    return [int(row["pid"]) for row in await postgres.sql(newest)]


async def own_backend(postgres: Cluster) -> int:
    """The pid of the backend of the keeper that was started last."""
    return (await keepers(postgres))[0]


async def alive(postgres: Cluster, victim: Raw) -> bool:
    """Whether pg_stat_activity has the victim."""
    return bool(await postgres.sql("SELECT FROM pg_stat_activity WHERE pid = $1", victim.pid))


async def test_connection(postgres: Cluster, keeper: Keeper) -> None:
    """The keeper names itself, goes over TLS, and has nothing to complain about."""
    assert keeper.warnings == []
    pid = await own_backend(postgres)
    rows = await postgres.sql(
        "SELECT a.usename, a.datname, a.state, s.ssl FROM pg_stat_activity AS a JOIN pg_stat_ssl AS s USING (pid)"
        " WHERE a.pid = $1",
        pid,
    )
    assert tuple(rows[0]) == (roles.KEEPER.user, "postgres", "idle", True)


async def test_asked_while_it_looks(keeper: Keeper, new_victim: Victims) -> None:
    """Who asks while a statement for others is under way is served by the next one, for both things it does.

    The bench saw it: of four sessions at once, one in ten was told that its backend does not exist.
    """
    ended = [await new_victim() for _ in range(6)]
    looks = []
    for victim in ended:
        looks.append(asyncio.ensure_future(keeper.backend_start(victim.pid)))  # noqa: TID251 the test awaits them all
        await turns()
    started = await asyncio.gather(*looks)
    stops = []
    for victim, start in zip(ended, started, strict=True):
        stops.append(asyncio.ensure_future(keeper.stop(victim.pid, start)))  # noqa: TID251 the test awaits them all
        await turns()
    assert len(await asyncio.gather(*stops)) == len(ended)


async def turns() -> None:
    """Let the event loop come round a few times: enough for the keeper to send, too few for an answer."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_comes_back(postgres: Cluster, keeper: Keeper, victim: Raw) -> None:
    """Its backend killed, it connects again; a stop that is asked for meanwhile is served within its time."""
    started = await keeper.backend_start(victim.pid)
    await postgres.sql("SELECT pg_terminate_backend($1)", await own_backend(postgres))
    await keeper.stop(victim.pid, started)
    assert not await alive(postgres, victim)
    assert keeper.ready


@pytest.mark.usefixtures("keeper")
async def test_comes_back_by_itself(postgres: Cluster) -> None:
    """It does not wait for somebody to ask."""
    before = await keepers(postgres)
    await postgres.sql("SELECT pg_terminate_backend($1)", before[0])

    async def another() -> bool:
        return not set(await keepers(postgres)) <= set(before)

    await eventually(another, within=3)


async def test_server_goes_and_comes(own_postgres: Cluster, tmp_path: Path) -> None:
    """While the server is down the keeper is not ready and says why; when it is back, so is the keeper."""
    keeper = Keeper("orders", target_of(own_postgres, tmp_path), read_secret=read_secret)
    await keeper.start()
    own_postgres.stop()
    await eventually(lambda: not keeper.ready)
    before = time.monotonic()
    with pytest.raises(KeeperError, match=r"orders: backend 4711 not ended within 0\.3 s: .+") as caught:
        await keeper.stop(4711, "2026-11-22T01:44:00.123456+00:00", within_s=0.3)
    assert "lives on" not in str(caught.value)
    with pytest.raises(KeeperError, match="could not be looked up"):
        await keeper.backend_start(4711, within_s=0.3)
    assert time.monotonic() - before < 2
    own_postgres.start()
    await eventually(lambda: keeper.ready)
    await keeper.close()


async def test_goes_on_when_nobody_waits(
    postgres: Cluster, make_keeper: Callable[..., Keeper], victim: Raw, tmp_path: Path, keeper: Keeper
) -> None:
    """The caller gave up while there was no connection: as soon as there is one, the backend is ended."""
    secret = secret_of("wrong", tmp_path, "late")
    late = make_keeper()
    late._target = msgspec.structs.replace(late._target, keeper=KeeperSettings(user=roles.KEEPER.user, password=secret))
    await late.start()
    assert not late.ready
    with pytest.raises(KeeperError, match="28P01"):
        await late.stop(victim.pid, await keeper.backend_start(victim.pid), within_s=0.2)
    assert await alive(postgres, victim)
    secret_of(roles.KEEPER.password, tmp_path, "late")

    async def gone() -> bool:
        return not await alive(postgres, victim)

    await eventually(gone)
    await eventually(lambda: not late._stops)


async def test_backend_that_lives_on(
    postgres: Cluster, keeper: Keeper, victim: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend that does not act on the signal gets it again and again; the caller is told that it lives on."""
    signals: list[bool] = []
    original = backends.sight

    async def sight(
        connection: Connection, wanted: Sequence[backends.Wanted], *, timeout_s: float
    ) -> list[backends.Sighting | None]:
        signals.extend(want.signal for want in wanted)
        return await original(connection, wanted, timeout_s=timeout_s)

    monkeypatch.setattr(backends, "sight", sight)
    started = await keeper.backend_start(victim.pid)
    os.kill(victim.pid, signal.SIGSTOP)
    try:
        with pytest.raises(KeeperError, match="it lives on"):
            await keeper.stop(victim.pid, started, within_s=0.7)
    finally:
        os.kill(victim.pid, signal.SIGCONT)
    assert signals[0]
    assert 2 <= sum(signals) <= 4
    assert len(signals) > 10

    async def gone() -> bool:
        return not await alive(postgres, victim)

    await eventually(gone)


async def test_cancelled_caller(postgres: Cluster, keeper: Keeper, victim: Raw) -> None:
    """A caller that is cancelled at once has its backend ended all the same."""
    started = await keeper.backend_start(victim.pid)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await keeper.stop(victim.pid, started)

    async def gone() -> bool:
        return not await alive(postgres, victim)

    await eventually(gone)


async def test_closing(make_keeper: Callable[..., Keeper]) -> None:
    """Whoever waits when the keeper is closed is told so."""
    keeper = make_keeper(port=1)
    await keeper.start()
    waiting = asyncio.gather(
        keeper.stop(4711, "2026-11-22T01:44:00.123456+00:00"), keeper.backend_start(4711), return_exceptions=True
    )
    await asyncio.sleep(0)
    await keeper.close()
    assert [str(error) for error in await waiting] == ["orders: the keeper was closed"] * 2


async def test_superusers_backend(
    postgres: Cluster, make_keeper: Callable[..., Keeper], new_victim: Victims, tmp_path: Path
) -> None:
    """What PostgreSQL forbids is an error, warned of beforehand, and stops asked for together with it are served."""
    boss_login = Login(user=SUPERUSER, password=postgres.password)
    profile = profile_of(boss_login, tmp_path)
    keeper = make_keeper(access={"boss": profile})
    await keeper.start()
    assert keeper.warnings == [f"it cannot end backends of {SUPERUSER!r}, a superuser: only a superuser can"]
    boss = await log_in(dialler_of(postgres, tmp_path), profile)
    all_of_them = [boss, *[await new_victim() for _ in range(3)]]
    starts = await asyncio.gather(*(keeper.backend_start(one.pid) for one in all_of_them))
    stops = (keeper.stop(one.pid, started) for one, started in zip(all_of_them, starts, strict=True))
    refused, *served = await asyncio.gather(*stops, return_exceptions=True)
    assert isinstance(refused, KeeperError)
    assert "superuser" in str(refused)
    assert not any(isinstance(one, BaseException) for one in served)
    assert await alive(postgres, boss)
    boss.close()


async def test_rights(postgres: Cluster, make_keeper: Callable[..., Keeper], victim: Raw, keeper: Keeper) -> None:
    """A login without rights is warned of; what it may not see is an error, and never taken to be gone."""
    started = await keeper.backend_start(victim.pid)
    postgres.psql(f"CREATE ROLE {LESSER.user} LOGIN PASSWORD :'password'", password=LESSER.password)
    try:
        lesser = make_keeper(keeper=LESSER)
        await lesser.start()
        assert lesser.ready
        assert lesser.warnings == [
            "it cannot see other logins' backends: GRANT pg_read_all_stats TO it",
            f"it cannot end backends of '{roles.APP.user}': GRANT pg_signal_backend TO it",
            f"it cannot end backends of '{roles.READONLY.user}': GRANT pg_signal_backend TO it",
        ]
        with pytest.raises(KeeperError, match="may not be seen"):
            await lesser.backend_start(victim.pid)
        with pytest.raises(KeeperError, match="may not be seen"):
            await lesser.stop(victim.pid, started)
        postgres.psql(f"GRANT pg_read_all_stats TO {LESSER.user}")
        with pytest.raises(KeeperError, match=r"permission denied|must be a member"):
            await lesser.stop(victim.pid, started)
        assert await alive(postgres, victim)
        await lesser.close()
    finally:
        postgres.psql(f"DROP ROLE {LESSER.user}")


async def test_unknown_login_is_warned_of(make_keeper: Callable[..., Keeper]) -> None:
    """A profile whose login does not exist is found at the start."""
    keeper = make_keeper(access={"typo": AccessProfile(user="curfew_ap")})
    await keeper.start()
    assert keeper.warnings == ["the login 'curfew_ap' of an access profile does not exist"]


async def test_server_that_is_not_trusted(make_keeper: Callable[..., Keeper]) -> None:
    """The keeper judges the server's certificate as sessions do."""
    keeper = make_keeper(ca_file=None)
    await keeper.start()
    assert not keeper.ready
    with pytest.raises(KeeperError, match="CERTIFICATE_VERIFY_FAILED"):
        await keeper.backend_start(1, within_s=0.1)


def test_on_uvloop(postgres: Cluster, tmp_path: Path) -> None:
    """The loop that production runs on: a start looked up, a backend ended, over TLS and over a unix socket."""

    async def story() -> None:
        for host in (postgres.host, str(postgres.folder)):
            keeper = Keeper("orders", target_of(postgres, tmp_path, host=host), read_secret=read_secret)
            await keeper.start()
            victim = await log_in(dialler_of(postgres, tmp_path), profile_of(roles.APP, tmp_path))
            gone = await keeper.stop(victim.pid, await keeper.backend_start(victim.pid))
            assert gone.transaction == "none"
            assert not await alive(postgres, victim)
            victim.close()
            await keeper.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story())


def go_deaf(relay: Relay) -> None:
    """From now on nothing goes through what is open; new connections work."""
    for link in relay.open:
        link.deafen()


async def test_connection_that_goes_deaf(
    postgres: Cluster, make_keeper: Callable[..., Keeper], victim: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer and no end: the keeper drops the connection after its statement timeout and makes another."""
    monkeypatch.setattr("proxy.stop.STATEMENT_S", 0.5)
    monkeypatch.setattr("proxy.stop.LIVENESS_S", 0.2)
    async with Relay(postgres.port) as relay:
        keeper = make_keeper(port=relay.port)
        await keeper.start()
        started = await keeper.backend_start(victim.pid)
        go_deaf(relay)
        before = relay.accepted
        await eventually(lambda: relay.accepted > before and keeper.ready, what="another connection, unasked")
        go_deaf(relay)
        await keeper.stop(victim.pid, started)
        assert not await alive(postgres, victim)
        await keeper.close()
