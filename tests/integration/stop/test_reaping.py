"""What a proxy leaves is ended by another one on control's word, or by itself when it starts again."""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.testing import capture_logs

from proxy import links, orphans
from proxy.accounts import Accounts
from proxy.clock import Deadlines
from proxy.config import Configuration, ProxySettings
from proxy.contract import record
from proxy.contract.directive import Orphan, Reap
from proxy.contract.record import Chain, SessionEnd, SessionReaped
from proxy.contract.settings import Target
from proxy.contract.verification import verify_chain
from proxy.identity import load_or_create
from proxy.metrics import Metrics
from proxy.reaper import reap
from proxy.registry import Registry
from proxy.shared import Shared
from proxy.tasks import spawn
from proxy.tls import ServerTls
from tests.conftest import MakeProxy
from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.waiting import eventually
from tests.integration.link.stand_in import JOIN_TOKEN, StandIn
from tests.integration.stop.conftest import Victims
from tests.integration.upstream.targets import Raw, secret_of, target_of
from tests.unit.proxy.journals import open_journal, start_record, stored

STARTED = "2026-01-01T00:00:00.000000+00:00"


class Stand:
    """What a running proxy shares, with the target `orders`."""

    def __init__(self, folder: Path, target: Target) -> None:
        self.folder = folder / "journal"
        self.journal = open_journal(self.folder)
        self.key = Ed25519PrivateKey.generate()
        files = dict.fromkeys(("jwks_file", "tls_certificate_file", "tls_key_file"), "-")
        settings = ProxySettings(name="p2", state_dir=str(folder), issuer="i", audience="a", **files)  # type: ignore[arg-type]
        self.shared = Shared(
            settings=settings,
            tls=cast("ServerTls", None),
            targets=links.make(Configuration(proxy=settings, targets={"orders": target}), {}, {}),
            authority=lambda: None,
            has_lease=lambda: True,
            registry=Registry(max_sessions=10),
            journal=self.journal,
            key=self.key,
            deadlines=Deadlines(),
            metrics=Metrics(),
            accounts=cast("Accounts", None),
        )

    def records(self) -> list[SessionReaped]:
        """What was written, each a chain of its own that is whole and signed."""
        self.journal.flush()
        lines = stored(self.folder)
        assert [verify_chain([line], self.key.public_key()) for line in lines] == [1] * len(lines)
        return [msgspec.convert(record.decode(line), SessionReaped) for line in lines]


MakeStand = Callable[..., Stand]


@pytest.fixture
async def make_stand(postgres: Cluster, tmp_path: Path) -> AsyncIterator[MakeStand]:
    """Makes one whose keepers try to connect, with a changed target."""
    made: list[Stand] = []

    def make(**changed: Any) -> Stand:  # noqa: ANN401 any field of Target
        made.append(Stand(tmp_path, target_of(postgres, tmp_path, **changed)))
        return made[-1]

    yield make
    for stand in made:
        await links.close(stand.shared.targets.values())
        stand.journal.close()


async def alive(postgres: Cluster, *victims: Raw) -> int:
    """How many of them pg_stat_activity has."""
    pids = [victim.pid for victim in victims]
    return int((await postgres.sql("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY ($1)", pids))[0][0])


async def started(postgres: Cluster, victim: Raw) -> str:
    """When it was, as `session.start` has it."""
    rows = await postgres.sql("SELECT backend_start FROM pg_stat_activity WHERE pid = $1", victim.pid)
    return str(rows[0][0].isoformat(timespec="microseconds"))


def orphan(victim: Raw, since: str, **changed: Any) -> Orphan:  # noqa: ANN401 any field of Orphan
    """The victim as control names it."""
    known = Orphan(session=f"ses_{victim.pid}", target="orders", server=None, pid=victim.pid, started=since)
    return msgspec.structs.replace(known, **changed)


def directive(*found: Orphan, proxy: str = "p1") -> Reap:
    """Control's word on them."""
    return Reap(cursor=7, at=time.time_ns(), proxy=proxy, orphans=list(found), by="eve")


async def test_another_proxys_backends(
    postgres: Cluster, make_stand: MakeStand, new_victim: Victims, database: str
) -> None:
    """What is named ends, each with a record; another start, another target and what is not named are let be."""
    idle, writing, other_start, elsewhere = [await new_victim() for _ in range(4)]
    await postgres.sql("CREATE TABLE work (n int)", database=database)
    await postgres.sql("GRANT ALL ON work TO PUBLIC", database=database)
    await writing.run("BEGIN; INSERT INTO work VALUES (1)")
    since = {one.pid: await started(postgres, one) for one in (idle, writing, other_start, elsewhere)}
    said = directive(
        orphan(idle, since[idle.pid]),
        orphan(writing, since[writing.pid]),
        orphan(other_start, STARTED),
        orphan(elsewhere, since[elsewhere.pid], target="stock"),
    )
    stand = make_stand()
    await links.start(stand.shared.targets)
    await orphans.reap(said, stand.shared)
    assert await alive(postgres, idle, writing) == 0
    assert await alive(postgres, other_start, elsewhere) == 2
    by_pid = {one.backend_pid: one for one in stand.records()}
    assert set(by_pid) == {idle.pid, writing.pid, other_start.pid}
    found = {pid: (one.found, one.transaction, one.gone_at is not None) for pid, one in by_pid.items()}
    assert found[idle.pid] == (1, "none", True)
    assert found[writing.pid] == (1, "aborted", True)
    assert found[other_start.pid] == (0, None, True)
    first = by_pid[idle.pid]
    assert (first.reaped, first.left_by, first.target) == (f"ses_{idle.pid}", "p1", "orders")
    assert (first.backend_start, first.by, first.decided_at) == (since[idle.pid], "eve", said.at)


async def test_a_directive_about_this_proxy(postgres: Cluster, make_stand: MakeStand, victim: Raw) -> None:
    """Is not obeyed: it is there, after all."""
    stand = make_stand()
    await links.start(stand.shared.targets)
    await orphans.reap(directive(orphan(victim, await started(postgres, victim)), proxy="p2"), stand.shared)
    assert await alive(postgres, victim) == 1
    assert stand.records() == []


@pytest.fixture
def wrong_password(
    victim: Raw, tmp_path: Path, make_stand: MakeStand, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stand]:
    """A stand whose keeper cannot log in yet, and with which nobody is patient."""
    assert victim.pid  # made first: what makes it writes the right password
    stand = make_stand()
    (keeper,) = stand.shared.targets["orders"].keepers.values()
    monkeypatch.setattr(keeper, "stop", functools.partial(keeper.stop, within_s=0.05))
    monkeypatch.setattr("proxy.orphans.RETRY_S", 0.05)
    monkeypatch.setattr("proxy.reaper.RETRY_S", 0.05)
    secret_of("wrong", tmp_path, roles.KEEPER.user)
    yield stand
    secret_of(roles.KEEPER.password, tmp_path, roles.KEEPER.user)


@pytest.mark.parametrize("by", ["another proxy", "itself"])
async def test_a_target_that_cannot_be_reached_at_the_time(
    postgres: Cluster, wrong_password: Stand, tmp_path: Path, victim: Raw, by: str
) -> None:
    """It is tried again until it can be: whoever looks after the backend, it ends and there is a record of it."""
    stand, since = wrong_password, await started(postgres, victim)
    await links.start(stand.shared.targets)
    if by == "itself":
        leave(stand, victim, since)
        task = spawn("reaper", reap(stand.shared, stand.journal))
    else:
        task = spawn("reap", orphans.reap(directive(orphan(victim, since)), stand.shared))
    with capture_logs() as logs:
        await eventually(lambda: sum("not ended yet" in line["event"] for line in logs) > 2)
    assert await alive(postgres, victim) == 1
    secret_of(roles.KEEPER.password, tmp_path, roles.KEEPER.user)
    await asyncio.wait_for(task, 10)
    assert await alive(postgres, victim) == 0
    last = record.decode(stored(stand.folder)[-1])
    assert isinstance(last, SessionEnd if by == "itself" else SessionReaped)
    assert last.gone_at is not None


async def test_a_target_that_cannot_be_reached_at_all(
    postgres: Cluster, wrong_password: Stand, monkeypatch: pytest.MonkeyPatch, victim: Raw
) -> None:
    """There is an end of trying for another one, and the record says that nobody saw it gone."""
    await links.start(wrong_password.shared.targets)
    monkeypatch.setattr("proxy.orphans.REAP_S", 0)
    await orphans.reap(directive(orphan(victim, await started(postgres, victim))), wrong_password.shared)
    assert [(one.found, one.gone_at) for one in wrong_password.records()] == [(0, None)]


def leave(stand: Stand, victim: Raw, since: str, **changed: Any) -> None:  # noqa: ANN401 any field of SessionStart
    """A session of an earlier run in its journal, as a crash leaves it, and the journal opened anew."""
    chain, start = Chain("ses_left"), start_record()
    for name, value in {"backend_pid": victim.pid, "backend_start": since, **changed}.items():
        setattr(start, name, value)
    stand.journal.append_start(chain, chain.seal(start))
    stand.journal.close()
    stand.journal = stand.shared.journal = open_journal(stand.folder)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"target": "sold"}, "the target 'sold' is not configured"),
        (
            {"server": "10.0.0.5:5432", "backend_start": STARTED},
            "the target 'orders' has the host 10.0.0.5:5432 no more",
        ),
    ],
    ids=["target", "host"],
)
async def test_what_is_configured_no_more(
    make_stand: MakeStand, victim: Raw, changed: dict[str, str], says: str
) -> None:
    """Nobody can look, and nobody says that it is gone: it is said loudly, and counted."""
    stand = make_stand()
    await links.start(stand.shared.targets)
    leave(stand, victim, STARTED, **changed)
    with capture_logs() as logs:
        await reap(stand.shared, stand.journal)
    (loud,) = [line for line in logs if line["log_level"] == "critical"]
    assert (loud["error"], loud["pid"], loud["session"]) == (says, victim.pid, "ses_left")
    assert stand.shared.metrics.unverified_stops == 1
    last = record.decode(stored(stand.folder)[-1])
    assert isinstance(last, SessionEnd)
    assert (last.reason, last.gone_at, last.outcome) == ("crashed", None, "unknown")


@pytest.mark.parametrize("server", [None, "its-old-name:5432"], ids=["there was one", "renamed"])
async def test_several_hosts(postgres: Cluster, make_stand: MakeStand, victim: Raw, server: str | None) -> None:
    """Where the record does not say which one by its name of today, all are asked; who has the backend ends it."""
    stand = make_stand(host=[postgres.host, str(postgres.folder)], port=postgres.port)
    await links.start(stand.shared.targets)
    leave(stand, victim, await started(postgres, victim), server=server)
    await reap(stand.shared, stand.journal)
    assert await alive(postgres, victim) == 0
    last = record.decode(stored(stand.folder)[-1])
    assert isinstance(last, SessionEnd)
    assert last.gone_at is not None


async def test_one_worker_of_several(
    postgres: Cluster, make_proxy: MakeProxy, ca: Authority, tmp_path: Path, victim: Raw
) -> None:
    """A whole proxy of two workers hears control's word: the backend is gone, and one of them has written so."""
    async with StandIn(ca.server(folder=tmp_path)) as control:
        (tmp_path / "join").touch(mode=0o600)
        (tmp_path / "join").write_text(JOIN_TOKEN)
        join = {"url": control.url, "ca_file": str(ca.file), "join_token": {"file": str(tmp_path / "join")}}
        alone = dict.fromkeys(("jwks_file", "issuer", "audience"))
        proxy = make_proxy(postgres, options={**alone, "workers": 2, "control": join})
        await eventually(lambda: control.streams == 2, within=20)
        control.tell(directive(orphan(victim, await started(postgres, victim))))

        async def gone() -> bool:
            return await alive(postgres, victim) == 0

        await eventually(gone)
        await eventually(proxy.lines)
    (line,) = proxy.lines()
    assert verify_chain([line], load_or_create(proxy.state).public_key()) == 1
    one = record.decode(line)
    assert isinstance(one, SessionReaped)
    assert (one.left_by, one.found, one.backend_pid) == ("p1", 1, victim.pid)
