"""Taking an account down: whatever it left, whoever still works with it, and whoever else is at it."""

import asyncio
import contextlib
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy import account_ending, account_reach
from proxy import accounts as life
from proxy.account_ledger import Entry, Ledger
from proxy.account_names import Mark, account_name, literal, mark_text
from proxy.contract.grant import EndMode
from proxy.dial import UpstreamError
from proxy.errors import ClientGone
from tests.harness.postgres import Cluster
from tests.harness.waiting import eventually
from tests.integration.accounts.conftest import MakeStand
from tests.integration.accounts.stand import (
    OWNER,
    age,
    create_person,
    elevated,
    ephemeral,
    new_grant,
    person_is_in,
    roles_like,
)


async def owner_of(cluster: Cluster, table: str, database: str) -> str:
    """Who has a table."""
    rows = await cluster.sql(
        f"SELECT relowner::regrole::text FROM pg_class WHERE relname = '{table}'", database=database
    )
    return str(rows[0][0])


async def test_what_it_leaves_in_two_databases(
    cluster: Cluster, make_stand: MakeStand, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tables, a prepared transaction, a temporary table, an open transaction, default privileges, grants to others."""
    async with make_stand(ephemeral(preset="ddl")) as stand:
        made = new_grant()
        first, other = await stand.connect(made), await stand.connect(made, "stock")
        for number, working in enumerate((first, other)):
            await working.run(
                f"CREATE TABLE shop.left_{number} (a int); GRANT SELECT ON shop.left_{number} TO colleague"
            )
            await working.run("ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT SELECT ON TABLES TO colleague")
            await working.run("CREATE TEMP TABLE mine (a int)")
        gid = f"o'clock {cluster.port}"
        await other.run("BEGIN; CREATE TABLE shop.prepared (a int)")
        await other.run("PREPARE TRANSACTION '" + gid.replace("'", "''") + "'")
        await first.run("BEGIN; CREATE TABLE shop.open (a int)")
        stand.accounts.released(other.name, "closed")
        stand.accounts.released(first.name, "revoked")  # both backends live on, as if no keeper had reached them
        await stand.gone(made)
        assert [await owner_of(cluster, f"left_{n}", d) for n, d in ((0, "sales"), (1, "stock"))] == [
            "curfew_keeper"
        ] * 2
        assert not await cluster.sql("SELECT FROM pg_prepared_xacts WHERE gid = $1", gid)
        for database in ("sales", "stock"):
            assert not await cluster.sql(
                "SELECT FROM pg_class WHERE relname IN ('prepared', 'open')", database=database
            )
            assert not await cluster.sql("SELECT FROM pg_default_acl", database=database)
        said = capsys.readouterr().out
        assert "table shop.left_0" in said
        assert gid in said
        for number, database in enumerate(("sales", "stock")):
            await cluster.sql(f"DROP TABLE shop.left_{number}", database=database)


async def test_reassign_to(cluster: Cluster, make_stand: MakeStand) -> None:
    """Whom the profile names; the keeper, where that cannot be."""
    for to, has in ((OWNER, OWNER), ("nobody_of_this_name", "curfew_keeper")):
        async with make_stand(ephemeral(preset="ddl", reassign_to=to)) as stand:
            made = new_grant()
            working = await stand.connect(made)
            await working.run("CREATE TABLE shop.handed (a int)")
            working.leave()
            await stand.gone(made)
            assert await owner_of(cluster, "handed", "sales") == has
            await cluster.sql("DROP TABLE shop.handed", database="sales")


async def test_two_proxies_at_the_same_grant(cluster: Cluster, make_stand: MakeStand) -> None:
    """At once, again and again: each gets in with its own password, and the account goes with the last of them."""
    async with make_stand(ephemeral()) as one, make_stand(ephemeral()) as two:
        made = new_grant()
        workings = await asyncio.gather(*(stand.connect(made) for stand in (one, two, one, two, one, two)))
        assert one.metrics.accounts["made"] + two.metrics.accounts["made"] == 1
        for working in workings[1:]:
            working.leave()
        again = await two.connect(made)
        assert await workings[0].value("SELECT 1") == "1"
        again.leave()
        workings[0].leave()
        await one.gone(made)
        assert await cluster.sql("SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'curfew\\_dba1%'")


async def test_sessions_that_come_and_go(cluster: Cluster, make_stand: MakeStand) -> None:
    """While the account of the last one is being taken down, the next one finds one made anew."""
    async with make_stand(ephemeral()) as one, make_stand(ephemeral()) as two:
        made = new_grant()

        async def come_and_go(number: int) -> None:
            for _ in range(4):
                working = await (one, two)[number % 2].connect(made)
                assert await working.value("SELECT note FROM shop.orders") == "first"
                working.leave()

        await asyncio.gather(*(come_and_go(number) for number in range(4)))
        await one.gone(made)
    assert not await roles_like(cluster, account_name(made))


async def test_it_lingers(make_stand: MakeStand) -> None:
    """A person who comes back finds what they made; when access is ended by somebody, nothing lingers."""
    async with make_stand(ephemeral(preset="ddl", linger_s=600)) as stand:
        made = new_grant()
        working = await stand.connect(made)
        await working.run("CREATE TABLE shop.again (a int)")
        working.leave()
        working = await stand.connect(made)
        await working.run("DROP TABLE shop.again")
        working.leave("killed")
        await stand.gone(made)


async def test_the_end_of_the_grant(cluster: Cluster, make_stand: MakeStand, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes then, also if nobody ends the sessions; and an extension moves it, in PostgreSQL too."""
    monkeypatch.setattr(life, "GRACE_S", 0.2)
    async with make_stand(ephemeral()) as stand:
        made, longer = new_grant(lasts_s=4), new_grant(lasts_s=4)
        working, stays = await stand.connect(made), await stand.connect(longer)
        await stand.accounts.extend(longer.id, longer.expires_at + 600)
        await stand.gone(made)
        assert not await cluster.sql("SELECT FROM pg_stat_activity WHERE pid = $1", working.raw.pid)
        assert await stays.value("SELECT note FROM shop.orders") == "first"
        ((valid,),) = await cluster.sql("SELECT rolvaliduntil FROM pg_roles WHERE rolname = $1", account_name(longer))
        assert valid.timestamp() == longer.expires_at + 600
        stays.leave("killed")
        await stand.gone(longer)


async def test_what_an_earlier_process_left(cluster: Cluster, make_stand: MakeStand) -> None:
    """The next start reads the ledger, and ends what nobody works with, whether the grant lasts or not."""
    made = new_grant()
    async with make_stand(ephemeral(linger_s=600)) as stand:
        (await stand.connect(made)).leave()
        entries = list(stand.ledger.entries.values())
        stand.ledger.close()
        stand.accounts.close = no_close  # type: ignore[method-assign]
    assert await roles_like(cluster, account_name(made))
    ledger = Ledger.open(stand.folder)
    assert list(ledger.entries.values()) == entries
    ledger.close()
    async with make_stand(ephemeral(), folder=stand.folder) as again:
        await again.gone(made)
        await eventually(lambda: not again.ledger.entries, what="an empty ledger")


async def no_close() -> None:
    """As if the process were killed."""


async def test_the_ledger_of_another_number_of_workers(make_stand: MakeStand) -> None:
    """It is adopted, and removed."""
    made = new_grant()
    async with make_stand(ephemeral(linger_s=600)) as stand:
        (await stand.connect(made)).leave()
        stand.ledger.close()
        stand.accounts.close = no_close  # type: ignore[method-assign]
    async with make_stand(ephemeral()) as again:
        await life.adopt_all([stand.folder, again.folder / "none"], again.accounts)
        await again.gone(made)
    assert not (stand.folder / "accounts.ndjson").exists()


@pytest.mark.parametrize("identity", ["ephemeral", "elevated"])
async def test_the_sweep(
    cluster: Cluster, make_stand: MakeStand, monkeypatch: pytest.MonkeyPatch, identity: str
) -> None:
    """An account whose proxy never comes back is taken down by another one, when its time is over by a margin."""
    monkeypatch.setattr(life, "SWEEP_S", 0.3)
    profile = ephemeral() if identity == "ephemeral" else elevated(cluster)
    person = "swept"
    if not await roles_like(cluster, person):
        cluster.psql(f"CREATE ROLE {person} LOGIN; GRANT staff TO {person}")
    made, lasting = new_grant(person=person), new_grant(person=person)
    async with make_stand(profile) as stand:
        await asyncio.gather(stand.connect(made), stand.connect(lasting))
        stand.ledger.close()
        stand.accounts.close = no_close  # type: ignore[method-assign]
    await age(cluster, account_name(made))
    async with make_stand(profile, sweeps=True) as other:
        await other.gone(made, within=20)
        assert await roles_like(cluster, account_name(lasting))
        if identity == "elevated":
            assert await person_is_in(cluster, person) == ["staff", account_name(lasting)]
        await asyncio.to_thread(cluster.psql, f"DROP ROLE {account_name(lasting)}")


@pytest.mark.parametrize("marked", [False, True], ids=["unmarked", "of another grant"])
async def test_a_role_that_is_not_ours(cluster: Cluster, make_stand: MakeStand, *, marked: bool) -> None:
    """Of the same name, without our mark or with one for another grant: it is not touched, and nobody gets in by it."""
    made = new_grant()
    name = account_name(made)
    cluster.psql(f"CREATE ROLE {name}")
    if marked:
        other = Mark(grant="grt_other", person=made.person, identity="ephemeral", until=made.expires_at + 600)
        cluster.psql(f"COMMENT ON ROLE {name} IS {literal(mark_text(other))}")
    async with make_stand(ephemeral()) as stand:
        with pytest.raises(UpstreamError, match="not this grant's account"):
            await stand.connect(made)
        await eventually(lambda: not stand.ledger.entries, what="an empty ledger")
    assert await roles_like(cluster, name)
    cluster.psql(f"DROP ROLE {name}")


async def test_a_target_that_vanishes(make_stand: MakeStand) -> None:
    """From the configuration: the account waits in the ledger until it is back."""
    async with make_stand(ephemeral()) as stand:
        made = new_grant()
        working = await stand.connect(made)
        del stand.links["orders"]
        working.leave()
        await eventually(lambda: stand.metrics.accounts["trouble"], what="a try")
        stand.links["orders"] = stand.link
        await stand.gone(made)


async def test_a_table_that_is_in_use(cluster: Cluster, make_stand: MakeStand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else reads what the account owns: it is blocked at once, and dropped when they are done."""
    monkeypatch.setattr(account_reach, "_STARTUP", (*account_reach._STARTUP, (b"lock_timeout", b"200ms")))
    async with make_stand(ephemeral(preset="ddl")) as stand:
        made = new_grant()
        working = await stand.connect(made)
        await working.run("CREATE TABLE shop.busy (a int)")
        reader = await cluster.connect(database="sales")
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(reader.transaction())
            await reader.fetch("SELECT * FROM shop.busy")
            working.leave()
            await eventually(lambda: stand.metrics.accounts["trouble"], what="a try that met the lock")
            rows = await cluster.sql("SELECT rolcanlogin FROM pg_roles WHERE rolname = $1", account_name(made))
            assert not rows[0][0]
        await reader.close()
        await stand.gone(made)
        await cluster.sql("DROP TABLE shop.busy", database="sales")


def test_entries_are_plain() -> None:
    """What the ledger has of an account says nothing secret."""
    named = {"account", "target", "grant", "person", "identity", "until", "finish_s", "revoked"}
    assert set(Entry.__struct_fields__) == named


@pytest.mark.parametrize("identity", ["ephemeral", "elevated"])
async def test_what_is_let_finish(
    cluster: Cluster, make_stand: MakeStand, monkeypatch: pytest.MonkeyPatch, identity: str
) -> None:
    """A statement that may finish behind its grant's end keeps its account, in this process and for another's sake.

    The account was taken down, and the statement with it, 10 s after the end, or at once by another process that had
    had a session on the same grant.
    """
    monkeypatch.setattr(life, "GRACE_S", 0.0)
    monkeypatch.setattr(account_ending, "PATIENCE_S", 0.0)
    profile = ephemeral(linger_s=60.0) if identity == "ephemeral" else elevated(cluster)
    person, key = f"late_{identity}_{cluster.port}", Ed25519PrivateKey.generate()
    if identity == "elevated":
        create_person(cluster, person)
    made = new_grant(person=person, lasts_s=3, end=EndMode.FINISH)
    async with make_stand(profile, key=key) as first, make_stand(profile, key=key) as second:
        working = await first.connect(made)
        if identity == "ephemeral":
            (await second.connect(made)).leave()
        sleeping = f"SELECT 'slept' FROM pg_sleep_until(to_timestamp({made.expires_at + 1}))"
        assert await working.value(sleeping) == "slept"
        if identity == "elevated":
            assert await person_is_in(cluster, person) == ["staff", account_name(made)]
        working.leave("expired")
        await first.gone(made, within=5)


async def test_what_finishes_too_late(make_stand: MakeStand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its account goes when its time is up, whoever has the session: should that process not have ended it."""
    monkeypatch.setattr(life, "GRACE_S", 0.0)
    monkeypatch.setattr(account_ending, "PATIENCE_S", 0.0)
    made = new_grant(lasts_s=2, end=EndMode.FINISH)
    async with make_stand(ephemeral(), finish_timeout_s=0.5) as stand:
        working = await stand.connect(made)
        with pytest.raises(ClientGone):
            await working.run("SELECT pg_sleep(60)")
        assert time.time() > made.expires_at + 0.5
        working.leave("expired")
        await stand.gone(made)
