"""The cut: what commits, commits before it. PostgreSQL's own commit times are held against the record's."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TypeAlias

import pytest

from proxy.contract.record import SessionEnd, StatementEnd, StatementStart, decode
from proxy.contract.verification import verify_chain
from proxy.identity import load_or_create
from tests.conftest import MakeProxy
from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.tokens import grant as make_grant
from tests.harness.waiting import eventually
from tests.harness.wire import SYNC, Wire, one_by_one, query

Insert: TypeAlias = Callable[[Wire, int], Awaitable[None]]

LEAD_S = 1.0
SESSIONS = 4
LATE_S = 0.5
"""How late a decision may be, on a machine that also runs the clients."""


@pytest.fixture(scope="module")
def timed_postgres(ca: Authority) -> Iterator[Cluster]:
    """A PostgreSQL that knows when each transaction was committed."""
    with Cluster(ca, settings={"track_commit_timestamp": "on"}) as cluster:
        roles.install(cluster)
        yield cluster


@pytest.fixture
async def table(timed_postgres: Cluster) -> AsyncIterator[str]:
    """A database with a table to insert into."""
    name = "cut"
    roles.create_database(timed_postgres, name)
    await timed_postgres.sql("CREATE TABLE work (session int, n int)", database=name)
    await timed_postgres.sql(f"ALTER TABLE work OWNER TO {roles.APP.user}", database=name)
    yield name
    roles.drop_database(timed_postgres, name)


async def insert_one_by_one(wire: Wire, session: int) -> None:
    """A transaction for each row, one after the other, until the end."""
    number = 0
    while not wire.closing:
        number += 1
        wire.send(query(f"INSERT INTO work VALUES ({session}, {number})"))
        said = await wire.read()
        while said.kind not in "ZE":
            said = await wire.read()
        if said.kind == "E":
            assert said.fields["C"] == "57P01"
            return


async def insert_by_pipeline(wire: Wire, session: int) -> None:
    """The same, faster than it can be done: whatever is sent is taken as fast as the sockets allow."""
    many = b"".join(one_by_one("INSERT INTO work VALUES ($1, $2)", str(session), str(n)) + SYNC for n in range(1_000))

    async def send() -> None:
        while not wire.closing:
            wire.send(many)
            await wire.drain()

    async with asyncio.TaskGroup() as group:
        sending = group.create_task(send())
        said = await wire.bytes_left(within=LEAD_S + 10)
        sending.cancel()
    assert b"C57P01\0" in said[-1_000:]


@pytest.mark.parametrize("insert", [insert_one_by_one, insert_by_pipeline], ids=["one by one", "by pipeline"])
async def test_nothing_commits_behind_the_cut(
    timed_postgres: Cluster, table: str, ca: Authority, tmp_path_factory: pytest.TempPathFactory, insert: Insert
) -> None:
    """Sessions that commit as fast as they can: the last commit is older than the backend's end, which is in time."""
    folder = tmp_path_factory.mktemp("cut")
    with Proxy(cluster=timed_postgres, ca=ca, folder=folder, database=table) as proxy:
        grant, end = new_grant_id(), time.time() + LEAD_S
        token = proxy.signer.token(make_grant(id=grant, profile="app"), exp=end)

        async def one(number: int) -> None:
            async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
                await wire.log_in(token)
                await insert(wire, number)

        await asyncio.gather(*(one(number) for number in range(SESSIONS)))
        await eventually(lambda: len(proxy.ended()) == SESSIONS)
        sessions = [[decode(line) for line in lines] for lines in proxy.sessions().values()]
        for lines in proxy.sessions().values():
            verify_chain(lines, load_or_create(proxy.state).public_key())
    gone_at = 0
    for records in sessions:
        last = records[-1]
        assert isinstance(last, SessionEnd)
        assert last.gone_at is not None
        assert last.decided_at / 1e9 < end + LATE_S
        assert last.gone_at / 1e9 < end + 1
        gone_at = max(gone_at, last.gone_at)
        assert all(one.at <= last.decided_at for one in records if isinstance(one, StatementStart))
    query_commits = "SELECT count(*) AS n, max(pg_xact_commit_timestamp(xmin)) AS at FROM work"
    (commits,) = await timed_postgres.sql(query_commits, database=table)
    assert commits["at"].timestamp() < gone_at / 1e9
    everything = [one for records in sessions for one in records]
    recorded = sum(isinstance(one, StatementStart) for one in everything)
    # In a pipeline a tag may come before its commit; ReadyForQuery, which has the state, comes behind it.
    ends = [one for one in everything if isinstance(one, StatementEnd) and one.state is not None]
    answered = sum(one.tags == ["INSERT 0 1"] for one in ends)
    assert SESSIONS < answered <= commits["n"] <= recorded


async def test_nobody_else_waits(timed_postgres: Cluster, table: str, make_proxy: MakeProxy) -> None:
    """While a session pipelines as fast as it can, another one's statements are answered as usual."""
    proxy = make_proxy(timed_postgres, database=table)
    context = proxy.ca.client_context()
    async with await Wire.tls(proxy.port, context) as flooding, await Wire.tls(proxy.port, context) as other:
        token = proxy.signer.token(make_grant(profile="app"), exp=time.time() + LEAD_S + 1)
        await flooding.log_in(token)
        await other.log_in(proxy.token())
        async with asyncio.TaskGroup() as group:
            flood = group.create_task(insert_by_pipeline(flooding, 1))
            taken = []
            while not flood.done():
                begun = time.monotonic()
                assert await other.value("SELECT 1") == "1"
                taken.append(time.monotonic() - begun)
    assert len(taken) > 20
    assert sorted(taken)[len(taken) // 2] < 0.1
    assert max(taken) < 1
