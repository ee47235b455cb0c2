"""End mode `finish`: the running statement may end, no other one starts, and what cannot wait ends it at once."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from proxy.contract.directive import Revoke
from proxy.contract.grant import EndMode
from proxy.contract.record import (
    AnyRecord,
    Cancel,
    EndReason,
    Finish,
    Outcome,
    SessionEnd,
    StatementEnd,
    StatementStart,
    decode,
)
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import new_grant_id
from tests.harness.tokens import grant as make_grant
from tests.harness.waiting import never
from tests.harness.wire import SYNC, TERMINATE, Message, Wire, bind, cancel_request, execute, message, parse, query
from tests.integration.session.governed import Governed, now_ns

LEAD_S = 2.5
PAST_S = 0.5
ENDLESS = "INSERT INTO work SELECT {} FROM (SELECT pg_sleep(60)) s"
DRAIN_S = 0.5


class Stand(Governed):
    """Two targets, of which `short` gives statements half a second; and a database to work in."""

    def __init__(self, postgres: Cluster, ca: Authority, folder: Path, database: str) -> None:
        further = {"short": {"finish_timeout_s": 0.5}}
        options = {"drain_timeout_s": DRAIN_S}
        super().__init__(postgres, ca, folder, database=database, further=further, options=options)
        self.end = 0.0
        """When the grants end."""

    def slow(self, number: int) -> str:
        """A statement that runs past the grants' end, however late it begins."""
        until = f"pg_sleep_until(to_timestamp({self.end + PAST_S}))"
        return f"INSERT INTO work SELECT {number} FROM (SELECT {until}) s"

    async def begin(self, grant: str, target: str = "orders") -> Wire:
        """A session on a grant of mode `finish`."""
        made = make_grant(id=grant, profile="app", target=target, end=EndMode.FINISH)
        wire = await Wire.tls(self.proxy.port, self.proxy.ca.client_context())
        await wire.log_in(self.proxy.signer.token(made, exp=self.end), ("user", "dba1"), ("database", target))
        return wire

    async def check(
        self, grant: str, said: list[Message], outcome: Outcome, how: str, reason: EndReason = "expired"
    ) -> SessionEnd:
        """What the client was told and what the record says."""
        assert said[-1].fields["C"] == "57P01"
        assert said[-1].fields["D"].startswith(f"Work that was open: {outcome}.")
        last = await self.last(grant)
        assert (last.reason, last.outcome, last.running) == (reason, outcome, last.statements)
        assert isinstance(last.finish, Finish)
        assert last.finish.ended == how
        assert last.gone_at is not None
        return last


Case: TypeAlias = Callable[[Stand], Coroutine[Any, Any, int]]
"""What a session does; returns how many of the rows numbered by its case are there in the end."""


def warning(said: list[Message]) -> dict[str, str]:
    """What the client was told at the decision."""
    (one,) = [one.fields for one in said if one.kind == "N"]
    return one


async def autocommit(stand: Stand) -> None:
    """It commits, and is answered in full; what was sent behind the end was not run, and the person knows."""
    grant = new_grant_id()
    async with await stand.begin(grant) as wire:
        end = stand.end
        wire.send(query(stand.slow(1)))
        said = await wire.until("N")
        assert end <= time.time() < end + 1
        assert "the grant has expired" in warning(said)["M"]
        assert warning(said)["H"] == "What runs may finish within 60 s; nothing else is started."
        wire.send(query("INSERT INTO work VALUES (-1)"))
        said = await wire.rest()
    assert [one.kind for one in said] == ["C", "Z", "E"]
    assert said[-1].fields["D"] == "Work that was open: committed before. What was asked since then was not run."
    last = await stand.check(grant, said, "committed before", "done")
    assert last.finish is not None
    assert last.finish.decided_at == last.decided_at
    assert end <= last.decided_at / 1e9 < end + 0.5
    assert last.finish.until == pytest.approx(last.decided_at + 60e9, abs=1e9)
    assert [one.sql for one in await stand.records(grant) if isinstance(one, StatementStart)] == [stand.slow(1)]


async def transaction(stand: Stand) -> None:
    """Its statement ends; the transaction is rolled back."""
    grant = new_grant_id()
    async with await stand.begin(grant) as wire:
        await wire.run("BEGIN")
        wire.send(query(stand.slow(-2)))
        said = await wire.rest()
    assert [one.kind for one in said] == ["N", "C", "Z", "E"]
    await stand.check(grant, said, "rolled back", "done")


async def pipeline(stand: Stand) -> None:
    """What was forwarded before the end runs, to the Sync that comes behind it."""
    grant = new_grant_id()
    async with await stand.begin(grant) as wire:
        for number in (3, 33):
            wire.send(parse(stand.slow(number) if number == 3 else f"INSERT INTO work VALUES ({number})"))
            wire.send(bind() + execute())
        await wire.until("N")
        wire.send(SYNC + parse("INSERT INTO work VALUES (-3)") + bind() + execute() + SYNC)
        said = await wire.rest()
    assert [one.kind for one in said] == ["1", "2", "C", "1", "2", "C", "Z", "E"]
    last = await stand.last(grant)
    assert (last.outcome, last.statements) == ("committed before", 2)


async def in_part(stand: Stand) -> None:
    """Two rounds behind the end, of which one fails."""
    grant = new_grant_id()
    async with await stand.begin(grant) as wire:
        wire.send(query(stand.slow(10)) + query("INSERT INTO work SELECT 1 / 0"))
        said = await wire.rest()
    assert [one.kind for one in said] == ["N", "C", "Z", "E", "Z", "E"]
    last = await stand.last(grant)
    assert (last.outcome, last.running, last.statements) == ("partly committed", 1, 2)


async def copy_in(stand: Stand) -> None:
    """Its data go on behind the end."""
    grant = new_grant_id()
    async with await stand.begin(grant) as wire:
        wire.send(query("COPY work FROM STDIN"))
        await wire.until("G")
        wire.send(message("d", b"4\n"))
        await wire.until("N")
        wire.send(message("d", b"4\n") + message("c"))
        said = await wire.rest()
    assert [one.kind for one in said] == ["C", "Z", "E"]
    await stand.check(grant, said, "committed before", "done")


async def too_long(stand: Stand) -> None:
    """Its time is up: nothing of it stays."""
    grant = new_grant_id()
    async with await stand.begin(grant, "short") as wire:
        end = stand.end
        wire.send(query(ENDLESS.format(-5)))
        said = await wire.rest()
        assert end + 0.4 < time.time() < end + 2
    last = await stand.check(grant, said, "rolled back", "timeout")
    assert last.decided_at / 1e9 < end + 0.4


async def revoked(stand: Stand) -> None:
    """Means now."""
    grant = new_grant_id()
    async with await stand.begin(grant) as wire:
        wire.send(query(ENDLESS.format(-6)))
        await wire.until("N")
        at = time.time()
        stand.control.tell(Revoke(cursor=1, at=now_ns(), grant=grant, expires_at=at + 60, by="eve"))
        said = await wire.rest()
        assert time.time() < at + 1
    last = await stand.check(grant, said, "rolled back", "cut", "revoked")
    assert last.finish is not None
    assert last.by == "eve"
    assert last.finish.decided_at < last.decided_at


async def cancelled(stand: Stand) -> None:
    """The person can still give it up."""
    grant = new_grant_id()
    async with await stand.begin(grant) as wire:
        wire.send(query(ENDLESS.format(-7)))
        await wire.until("N")
        async with await Wire.plain(stand.proxy.port) as other:
            other.send(cancel_request(wire.pid, wire.secret))
            assert await other.bytes_left() == b""
        said = await wire.rest()
    assert [one.fields.get("C") for one in said if one.kind == "E"] == ["57014", "57P01"]
    await stand.check(grant, said, "rolled back", "done")
    assert [one.forwarded for one in await stand.records(grant) if isinstance(one, Cancel)] == [True]


async def idle(stand: Stand) -> None:
    """There is nothing to wait for."""
    grant = new_grant_id()
    async with await stand.begin(grant) as wire:
        await wire.run("BEGIN")
        said = await wire.rest()
    assert [one.kind for one in said] == ["E"]
    last = await stand.last(grant)
    assert (last.reason, last.outcome, last.finish) == ("expired", "rolled back", None)


async def left(stand: Stand) -> None:
    """Nobody waits for it any more: it ends as it would have before."""
    grant = new_grant_id()
    async with await stand.begin(grant) as wire:
        wire.send(query(ENDLESS.format(-9)))
        await wire.until("N")
    last = await stand.last(grant)
    assert (last.reason, last.outcome) == ("client_lost", "rolled back")
    assert last.finish is not None
    assert last.finish.ended == "cut"


CASES = (autocommit, transaction, pipeline, in_part, copy_in, too_long, revoked, cancelled, idle, left)


@pytest.fixture
async def stand(postgres: Cluster, ca: Authority, tmp_path: Path, database: str) -> AsyncIterator[Stand]:
    """With a table that remembers who wrote into it."""
    connection = await postgres.connect(database=database)
    await connection.execute("CREATE TABLE work (n int); ALTER TABLE work OWNER TO curfew_app")
    await connection.close()
    async with Stand(postgres, ca, tmp_path, database) as made:
        yield made


async def rows(postgres: Cluster, database: str) -> list[int]:
    """What was committed, in order."""
    found = await postgres.sql("SELECT n FROM work ORDER BY n", database=database)
    return [row["n"] for row in found]


async def test_behind_the_end(stand: Stand, postgres: Cluster, database: str) -> None:
    """Ten sessions whose grants end, each doing something else; what stays is what was running and ended in time."""
    for some in (CASES[:5], CASES[5:]):
        stand.end = time.time() + LEAD_S
        await asyncio.gather(*(case(stand) for case in some))
    assert await rows(postgres, database) == [1, 3, 4, 4, 10, 33]
    due_s = sum(stop_s([decode(line) for line in lines]) for lines in stand.proxy.sessions().values())
    assert stand.proxy.metrics()["curfew_stop_seconds_sum"] < due_s + PAST_S


def stop_s(records: list[AnyRecord]) -> float:
    """How long the session's stop took: what a statement was given to finish is none of it."""
    last = records[-1]
    assert isinstance(last, SessionEnd)
    if last.gone_at is None or last.reason in ("closed", "upstream"):
        return 0.0
    begun = last.decided_at
    if last.finish is not None and last.finish.ended == "timeout":
        begun = last.finish.until
    if last.finish is not None and last.finish.ended == "done":
        begun = max(one.at for one in records if isinstance(one, StatementEnd))
    return (last.gone_at - begun) / 1e9


async def test_a_drain(stand: Stand, postgres: Cluster, database: str) -> None:
    """It waits for the statement, unless somebody asks a second time; a Terminate from behind the end is heeded."""
    done, cut = new_grant_id(), new_grant_id()
    stand.end = time.time() + 60
    async with await stand.begin(done) as wire, await stand.begin(cut) as other:
        wire.send(query(f"INSERT INTO work SELECT 1 FROM (SELECT pg_sleep({DRAIN_S + PAST_S})) s"))
        other.send(query(ENDLESS.format(-1)))
        stand.proxy.signal(signal.SIGTERM)
        told = await wire.until("N")
        assert "the proxy is shutting down" in warning(told)["M"]
        wire.send(TERMINATE)
        assert [one.kind for one in await wire.rest()][:2] == ["C", "Z"]
        await other.until("N")
        await never(lambda: other.closing, during=0.2)
        stand.proxy.signal(signal.SIGTERM)
        said = await other.rest()
    assert stand.proxy.process is not None
    assert await asyncio.to_thread(stand.proxy.process.wait) == 0
    last = await stand.check(cut, said, "rolled back", "cut", "drained")
    assert last.finish is not None
    assert last.finish.decided_at < last.decided_at
    assert (await stand.last(done)).outcome == "committed before"
    assert await rows(postgres, database) == [1]
