"""Who may replicate, and where it leads. Refused: nothing reaches PostgreSQL. Taken: PostgreSQL has its own limits."""

import re
from contextlib import AsyncExitStack

import pytest

from proxy import check, config
from proxy.contract.record import AuthRefused
from tests.harness import roles
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.replication import BACKUP, DATABASE, PROFILE, WAL_SENDERS
from tests.harness.serverlog import connections
from tests.harness.waiting import eventually
from tests.harness.wire import Refused, Wire

PHYSICAL = (("user", "dba1"), ("replication", "true"))
LOGICAL = (("user", "dba1"), ("database", f"orders/{DATABASE}"), ("replication", "database"))


async def log_in(stack: AsyncExitStack, proxy: Proxy, token: str, *parameters: tuple[str, str]) -> Wire:
    """A session that ends with `stack`."""
    wire = await stack.enter_async_context(await Wire.tls(proxy.port, proxy.ca.client_context()))
    await wire.log_in(token, *parameters)
    return wire


@pytest.mark.parametrize("parameters", [PHYSICAL, LOGICAL], ids=["physical", "logical"])
@pytest.mark.parametrize(
    ("profile", "databases", "detail"),
    [
        ("app", ("*",), 'Access profile "app" of orders does not allow them.'),
        ("app", (DATABASE,), 'Access profile "app" of orders does not allow them.'),
        (PROFILE, (DATABASE,), "They read the whole server, and grant {} is not for all databases."),
    ],
    ids=["profile", "both", "grant"],
)
async def test_not_allowed(
    replicator: Proxy, parameters: tuple[tuple[str, str], ...], profile: str, databases: tuple[str, ...], detail: str
) -> None:
    """One FATAL that says which of the two stands in the way; on record, and never heard of at PostgreSQL."""
    grant, before = new_grant_id(), await connections(replicator.cluster)
    async with AsyncExitStack() as stack:
        with pytest.raises(Refused) as caught:
            await log_in(
                stack, replicator, replicator.token(id=grant, profile=profile, databases=databases), *parameters
            )
    told = caught.value.fields
    assert (told["S"], told["C"]) == ("FATAL", "42501")
    assert told["M"] == "replication connections are not allowed with this grant"
    assert told["D"] == detail.format(grant)
    assert await connections(replicator.cluster) == before + 1
    (record,) = [one for one in replicator.records() if isinstance(one, AuthRefused) and one.grant == grant]
    assert record.refusal == "replication"


@pytest.mark.parametrize("database", [None, "", "replication", "orders", f"orders/{DATABASE}"])
async def test_physical_replication_is_in_no_database(replicator: Proxy, database: str | None) -> None:
    """Whatever is named: PostgreSQL does not look at it, so neither is it judged, but for the target."""
    named = () if database is None else (("database", database),)
    async with AsyncExitStack() as stack:
        wire = await log_in(stack, replicator, replicator.token(profile=PROFILE), *PHYSICAL, *named)
        (row,) = [one for one in await wire.run("IDENTIFY_SYSTEM") if one.kind == "D"]
        assert row.values[3] is None
        assert (await wire.run("SELECT 1"))[0].fields["C"] == "0A000"


@pytest.mark.parametrize("database", ["stock", "stock/replication", "dba1"])
async def test_another_target(replicator: Proxy, database: str) -> None:
    """The grant is for one target, and a name that is none is none here too."""
    async with AsyncExitStack() as stack:
        with pytest.raises(Refused, match="28P01"):
            await log_in(stack, replicator, replicator.token(profile=PROFILE), *PHYSICAL, ("database", database))


async def test_logical_replication_needs_a_target(replicator: Proxy) -> None:
    """As every session that is in a database."""
    async with AsyncExitStack() as stack:
        with pytest.raises(Refused, match="28P01"):
            await log_in(stack, replicator, replicator.token(profile=PROFILE), ("user", "dba1"), *LOGICAL[2:])


async def test_a_logical_connection_can_copy_the_whole_server(replicator: Proxy) -> None:
    """Why no profile can allow logical replication alone, and no grant one database: PostgreSQL knows no half of it."""
    async with AsyncExitStack() as stack:
        wire = await log_in(stack, replicator, replicator.token(profile=PROFILE), *LOGICAL)
        said = await wire.run("BASE_BACKUP (CHECKPOINT 'fast', MANIFEST 'no')")
        assert any(b"global/1260" in one.body for one in said if one.kind == "d"), "pg_authid is not in it"


async def test_a_role_that_may_not(replicator: Proxy) -> None:
    """PostgreSQL's own refusal comes through."""
    async with AsyncExitStack() as stack:
        with pytest.raises(Refused) as caught:
            await log_in(stack, replicator, replicator.token(profile="unable"), *PHYSICAL)
    assert caught.value.fields["C"] == "42501"
    assert re.search(r"WAL ?sender", caught.value.fields["M"], re.IGNORECASE)


async def test_all_walsenders_taken(replicator: Proxy) -> None:
    """max_wal_senders: PostgreSQL says so to one more."""
    async with AsyncExitStack() as stack:
        for _ in range(WAL_SENDERS):
            await log_in(stack, replicator, replicator.token(profile=PROFILE), *PHYSICAL)
        with pytest.raises(Refused) as caught:
            await log_in(stack, replicator, replicator.token(profile=PROFILE), *PHYSICAL)
    assert caught.value.fields["C"] == "53300"
    assert "max_wal_senders" in caught.value.fields["M"]


async def test_check_tries_it(replicator: Proxy) -> None:
    """`curfew-proxy check` starts a walsender for each profile that allows replication."""
    configuration = config.load(replicator.config, {})

    async def found() -> list[str]:
        faults = await check.everything(configuration, replicator.environment)
        # Walsenders of the test before count a moment longer than PostgreSQL shows them (ProcKill is the last to run).
        return [] if any("max_wal_senders" in one for one in faults) else faults

    (fault,) = await eventually(found)
    assert fault.startswith("targets.orders.access.unable.replication: ")
    assert f"ALTER ROLE {roles.READONLY.user} REPLICATION" in fault
    assert BACKUP.user not in fault
