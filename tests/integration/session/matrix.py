"""The matrix of the verified stop: every state of a session (`stops`) against everything that ends one (`triggers`).

A trigger strikes sessions in all the states at once. What is wrong afterwards is said, not asserted, so that one run
shows all of it; how long each backend lived is for the caller to judge.
"""

import asyncio
import functools
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg

from proxy.contract.record import Copy, SessionEnd, SessionStart, decode
from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.tokens import grant as make_grant
from tests.harness.waiting import eventually
from tests.harness.wire import Message, Wire
from tests.integration.link.stand_in import JOIN_TOKEN, StandIn
from tests.integration.session.stops import CASES, PROCEDURE, ROWS, Case
from tests.integration.session.triggers import IDLE_S, IDLER, LONG_S, STRICT, Trigger

Watcher: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

DISK_BYTES = 8 << 20
LEADS_S = (1.5, 6.0, 20.0, 60.0)
"""How long before a grant's end its sessions start. A machine that is too busy for one gets the next."""
IN_TIME_S = 0.1
PATIENCE_S = 60.0
"""For whatever is certain to come, however busy the machine."""
LOCK = 4711
_SEEN = """SELECT pid, state, wait_event FROM pg_stat_activity WHERE pid = ANY($1)"""
_ALIVE = """SELECT pid FROM pg_stat_activity
    WHERE (pid, backend_start) IN (SELECT * FROM unnest($1::int[], $2::timestamptz[]))"""


class NotReadyError(Exception):
    """The sessions did not get into their states before their grants were over."""


@dataclass(slots=True, kw_only=True)
class Running:
    """One session, and what was seen of it."""

    case: Case
    schema: str
    wire: Wire
    grant: str
    expires_at: float
    session: str = ""
    started: datetime | None = None
    """Of its backend."""
    gone: float = 0.0
    """When its backend was first seen to be gone; 0: never."""
    said: list[Message] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one trigger has done."""

    trigger: Trigger
    wrong: list[str]
    """Whatever is not as it should be, a line each."""
    took_s: dict[str, float]
    """From the strike to the backend's end, as seen by another connection, by state."""
    said_s: dict[str, float]
    """From the decision to the backend's end by the record, by state."""


@dataclass(slots=True, kw_only=True)
class Stand:
    """A proxy that hears a control, with its journal on a disk of its own, and tables for each state."""

    proxy: Proxy
    control: StandIn
    watcher: Watcher
    database: str

    @property
    def ballast(self) -> Path:
        """What takes the room on the journal's disk."""
        return self.proxy.state / "ballast"

    async def start(self) -> None:
        """Start the proxy, and wait until it hears control."""
        await asyncio.to_thread(self.proxy.start)
        await self.ready()

    async def ready(self) -> None:
        """Wait until it hears control."""
        lease = functools.partial(asyncio.to_thread, self._has_lease)
        await eventually(lease, within=PATIENCE_S, what="the proxy to hear control")

    def _has_lease(self) -> bool:
        return self.proxy.metrics()["curfew_lease"] == 1 and self.proxy.ops("/readyz")[0] == 200


@asynccontextmanager
async def stand(cluster: Cluster, ca: Authority, folder: Path, database: str, *, disk: bool) -> AsyncIterator[Stand]:
    """The stand in front of `cluster`; `disk`: the journal gets one of its own, which takes root."""
    async with AsyncExitStack() as stack:
        watcher = await cluster.connect(database=database, command_timeout=PATIENCE_S)
        stack.push_async_callback(watcher.close)
        stack.push_async_callback(_forget_prepared, watcher)
        await watcher.execute(f"SELECT pg_advisory_lock({LOCK})")
        for number, _ in enumerate(CASES):
            await watcher.execute(f"CREATE SCHEMA {_schema(number)} AUTHORIZATION {roles.APP.user}")
            await watcher.execute(f"CREATE TABLE {_schema(number)}.work (n int)")
            await watcher.execute(f"ALTER TABLE {_schema(number)}.work OWNER TO {roles.APP.user}")
            await watcher.execute(PROCEDURE.format(schema=_schema(number)))
        control = await stack.enter_async_context(StandIn(ca.server(folder=folder)))
        control.keeps = False
        (folder / "join").touch(mode=0o600)
        (folder / "join").write_text(JOIN_TOKEN)
        section = {"url": control.url, "ca_file": str(ca.file), "join_token": {"file": str(folder / "join")}}
        options: dict[str, Any] = {"control": section, "jwks_file": None, "stop_timeout_s": PATIENCE_S}
        login = {"user": roles.APP.user, "password": {"file": str(folder / "proxy" / f"{roles.APP.user}.password")}}
        proxy = Proxy(
            cluster=cluster,
            ca=ca,
            folder=folder / "proxy",
            options=options,
            target={"access": {"app": login, IDLER: {**login, "idle_timeout_s": IDLE_S}}},
            further={STRICT: {"lost_lease": "end-sessions"}},
            database=database,
        )
        control.jwks = proxy.signer.jwks
        if disk:
            stack.callback(small_disk(proxy.state, DISK_BYTES))
        stack.push_async_callback(asyncio.to_thread, proxy.close)
        made = Stand(proxy=proxy, control=control, watcher=watcher, database=database)
        await made.start()
        yield made


def small_disk(place: Path, size_bytes: int) -> "functools.partial[Any]":
    """Mount one; what takes it away again."""
    place.mkdir(parents=True, mode=0o700)
    size = f"size={size_bytes},mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place)], check=True)
    return functools.partial(subprocess.run, ["umount", "--lazy", str(place)], check=True)


async def _forget_prepared(watcher: Watcher) -> None:
    """Roll back what the sessions before have prepared: it keeps its locks, and its database from being dropped."""
    for row in await watcher.fetch("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"):
        await watcher.execute(f"ROLLBACK PREPARED '{row['gid']}'")


def _schema(number: int) -> str:
    return f"state{number}"


async def strike(stand: Stand, trigger: Trigger) -> Verdict:
    """Bring a session into each state, pull the trigger, and look what has become of them."""
    for lead_s in LEADS_S if trigger.expires else (LONG_S,):
        async with AsyncExitStack() as stack:
            try:
                sessions = await _bring_there(stand, trigger, stack, lead_s)
            except NotReadyError:
                continue
            return await _strike(stand, trigger, sessions)
    raise NotReadyError(f"{trigger.name}: not in {LEADS_S[-1]} s")


async def _strike(stand: Stand, trigger: Trigger, sessions: list[Running]) -> Verdict:
    await trigger.pull(stand, sessions)
    struck = time.time()
    await _watch(stand, sessions)
    for one in sessions:
        one.said = await one.wire.rest(within=PATIENCE_S)
    await trigger.undo(stand)
    wrong: list[str] = []
    said_s: dict[str, float] = {}
    for one in sessions:
        faults = [*_told(trigger, one), *await _work(stand, one)]
        end = await _recorded(stand, trigger, one, faults)
        said_s[one.case.name] = ((end.gone_at or 0) - end.decided_at) / 1e9
        wrong += [f"{trigger.name}, {one.case.name}: {fault}" for fault in faults]
    took_s = {one.case.name: one.gone - struck if one.gone else PATIENCE_S for one in sessions}
    took_s = said_s if trigger.by_itself else took_s
    return Verdict(trigger=trigger, wrong=wrong, took_s=took_s, said_s=said_s)


async def _bring_there(stand: Stand, trigger: Trigger, stack: AsyncExitStack, lead_s: float) -> list[Running]:
    """A session in each state, on grants that are over in `lead_s`."""
    chosen = [(number, case) for number, case in enumerate(CASES) if trigger.takes(case)]
    await _forget_prepared(stand.watcher)
    for number, _ in chosen:
        await stand.watcher.execute(
            f"TRUNCATE {_schema(number)}.work; INSERT INTO {_schema(number)}.work SELECT generate_series(1, {ROWS})"
        )
    expires_at = time.time() + lead_s
    opened = await asyncio.gather(
        *(_open(stand, stack, trigger, what, expires_at) for what in chosen), return_exceptions=True
    )
    failed = [one for one in opened if isinstance(one, BaseException)]
    if failed and time.time() > expires_at - IN_TIME_S:
        raise NotReadyError from failed[0]
    if failed:
        raise failed[0]
    sessions = [one for one in opened if isinstance(one, Running)]
    within = expires_at - time.time() if trigger.expires else PATIENCE_S
    try:
        if not trigger.by_itself:
            await eventually(functools.partial(_in_their_states, stand, sessions), within=max(0.0, within))
    except AssertionError:
        if trigger.expires:
            raise NotReadyError from None
        raise
    if time.time() > expires_at - IN_TIME_S:
        raise NotReadyError
    _identify(stand, sessions)
    return sessions


async def _open(
    stand: Stand, stack: AsyncExitStack, trigger: Trigger, what: tuple[int, Case], expires_at: float
) -> Running:
    number, case = what
    grant = new_grant_id()
    named = make_grant(id=grant, target=trigger.target, profile=trigger.profile)
    token = stand.proxy.signer.token(named, exp=expires_at)
    wire = await stack.enter_async_context(await Wire.tls(stand.proxy.port, stand.proxy.ca.client_context()))
    place = ("options", f"-c search_path={_schema(number)}")
    await wire.log_in(token, ("user", "dba1"), ("database", trigger.target), place)
    await case.begin(wire)
    return Running(case=case, schema=_schema(number), wire=wire, grant=grant, expires_at=expires_at)


async def _in_their_states(stand: Stand, sessions: Sequence[Running]) -> bool:
    rows = await stand.watcher.fetch(_SEEN, [one.wire.pid for one in sessions])
    seen = {row["pid"]: (row["state"], row["wait_event"]) for row in rows}
    for one in sessions:
        state, event = seen.get(one.wire.pid, ("gone", ""))
        if state != one.case.waits or one.case.event not in (None, event):
            return False
    return True


def _identify(stand: Stand, sessions: Sequence[Running]) -> None:
    """What the records say each session is."""
    starts = {one.grant: one for one in stand.proxy.records() if isinstance(one, SessionStart)}
    for one in sessions:
        start = starts[one.grant]
        assert start.backend_pid == one.wire.pid
        one.session, one.started = start.session, datetime.fromisoformat(start.backend_start)


async def _watch(stand: Stand, sessions: Sequence[Running]) -> None:
    """See each backend go."""

    async def all_gone() -> bool:
        left = [one for one in sessions if not one.gone]
        rows = await stand.watcher.fetch(_ALIVE, [one.wire.pid for one in left], [one.started for one in left])
        alive, now = {row["pid"] for row in rows}, time.time()
        for one in left:
            one.gone = 0.0 if one.wire.pid in alive else now
        return not alive

    try:
        await eventually(all_gone, within=PATIENCE_S)
    except AssertionError:
        return  # `gone` says which


# What is wrong.


def _told(trigger: Trigger, one: Running) -> list[str]:
    """The client has been told why, in the last message it got."""
    if not one.said or one.said[-1].kind != "E":
        return [f"the client was told nothing: {[str(said) for said in one.said[-2:]]}"]
    told = one.said[-1].fields
    if (told["S"], told["V"], told["C"]) != ("FATAL", "FATAL", trigger.sqlstate) or trigger.says not in told["M"]:
        return [f"the client was told {told}"]
    if trigger.reason != "journal" and not told["D"].startswith("Work that was open: "):
        return [f"the client was not told what became of its work: {told}"]
    return []


async def _work(stand: Stand, one: Running) -> list[str]:
    """Nothing that ran is committed, and all that was is there."""
    if not one.gone:
        return ["its backend lives"]
    counted = f"SELECT count(*) FILTER (WHERE n < 0), count(*) FILTER (WHERE n > 0) FROM {one.schema}.work"
    row = await stand.watcher.fetchrow(counted)
    assert row is not None
    changed, unchanged = row
    found = [] if (changed, unchanged) == (one.case.changed, ROWS) else [f"{changed} rows changed, {unchanged} not"]
    prepared = "SELECT count(*) FROM pg_prepared_xacts WHERE gid = $1"
    if (count := await stand.watcher.fetchval(prepared, f"of {one.wire.pid}")) != one.case.prepared:
        found.append(f"{count} prepared transactions")
    return found


async def _recorded(stand: Stand, trigger: Trigger, one: Running, faults: list[str]) -> SessionEnd:
    """The session's last record; what is wrong with any goes to `faults`."""
    lines = await stand.proxy.session_of(one.grant)
    last = decode(lines[-1])
    assert isinstance(last, SessionEnd)
    copies = tuple(record.direction for record in map(decode, lines) if isinstance(record, Copy) and record.failed)
    if copies != one.case.copies:
        faults.append(f"records of COPY: {copies}")
    if last.reason != trigger.reason:
        faults.append(f"the record's reason is {last.reason}")
    if last.outcome not in one.case.outcomes | trigger.outcomes:
        faults.append(f"the record's outcome is {last.outcome!r}")
    detail = one.said[-1].fields.get("D") if one.said and one.said[-1].kind == "E" else None
    if trigger.reason != "journal" and detail != f"Work that was open: {last.outcome}.":
        faults.append(f"the record says {last.outcome!r}, the client was told {detail!r}")
    if last.gone_at is None or last.gone_at <= last.decided_at:
        faults.append(f"decided at {last.decided_at}, gone at {last.gone_at}")
    if trigger.expires and last.decided_at / 1e9 < one.expires_at:
        faults.append("decided before the grant's end")
    return last
