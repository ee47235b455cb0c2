"""The matrix of the verified stop: every state of a session (`stops`) against everything that ends one (`triggers`).

A trigger strikes sessions in all the states at once, by the three kinds of identity and in both end modes: from turn to
turn, each state has them in other combinations. What is wrong afterwards is said, not asserted, so that one run shows
all of it; how long each backend lived is for the caller to judge.
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

from proxy.contract.grant import EndMode
from proxy.contract.record import SessionStart
from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.tokens import grant as make_grant
from tests.harness.waiting import eventually
from tests.harness.wire import Message, Wire, query
from tests.integration.link.stand_in import JOIN_TOKEN, StandIn
from tests.integration.session import judging
from tests.integration.session.judging import ONE_MORE
from tests.integration.session.stops import CASES, PROCEDURE, READABLE, ROWS, Case
from tests.integration.session.triggers import FINISH_S, IDLE_S, LONG_S, SHORT, STRICT, Trigger

Watcher: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

DISK_BYTES = 8 << 20
LEADS_S = (1.5, 6.0, 20.0, 60.0)
"""How long before a grant's end its sessions start. A machine that is too busy for one gets the next."""
IN_TIME_S = 0.1
IDENTITIES = ("app", "made", "raised")
"""Access profiles: a stored login, a role made for the grant, the person's own."""
FEW = ("app", "app", "made", "app", "app", "app", "app", "raised", "app", "app", "app")
"""For sessions that are to be there soon. Their number must share no factor with 2 and 3."""
HBA = ("hostssl all +staff 127.0.0.1/32 cert",)
"""What the cluster needs for the person's own."""
PAST_S = 0.7
"""How long behind the end of its grant a statement runs that is to finish in time."""
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
    identity: str
    end: EndMode
    ends_in_time: bool
    """What runs does, if it may: else it runs for long."""
    session: str = ""
    started: datetime | None = None
    """Of its backend."""
    gone: float = 0.0
    """When its backend was first seen to be gone; 0: never."""
    said: list[Message] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """What runs comes to its end."""
        return self.ends_in_time and self.case.finished is not None

    @property
    def what(self) -> str:
        """Which one it is, in words."""
        return f"{self.case.name} ({self.identity}, {self.end.value})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one trigger has done."""

    trigger: Trigger
    wrong: list[str]
    """Whatever is not as it should be, a line each."""
    took_s: dict[str, float]
    """From the strike to the backend's end, as seen by another connection, by state."""
    said_s: dict[str, float]
    """From the decision to the backend's end by the record, by state; where something ran on, from its end."""


@dataclass(slots=True, kw_only=True)
class Stand:
    """A proxy that hears a control, with its journal on a disk of its own, and tables for each state."""

    proxy: Proxy
    control: StandIn
    watcher: Watcher
    holder: Watcher
    """Who has the lock that one of the states waits for."""
    database: str
    accounts: frozenset[str]
    """The roles and memberships that belong there."""

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


def install(cluster: Cluster, database: str) -> None:
    """Make what a stand needs on a cluster of its own (with `HBA`): the logins, a person for each state, a database."""
    roles.install(cluster)
    roles.install_accounts(cluster)
    roles.let_keeper_alter(cluster, roles.APP.user)
    roles.create_database(cluster, database)
    cluster.psql(
        "CREATE ROLE staff;" + "".join(f"CREATE ROLE {_person(n)} LOGIN IN ROLE staff;" for n in range(len(CASES)))
    )


def _person(number: int) -> str:
    return f"dba{number}"


@asynccontextmanager
async def stand(cluster: Cluster, ca: Authority, folder: Path, database: str, *, disk: bool) -> AsyncIterator[Stand]:
    """The stand in front of `cluster`; `disk`: the journal gets one of its own, which takes root."""
    async with AsyncExitStack() as stack:
        watcher = await cluster.connect(database=database, command_timeout=PATIENCE_S)
        stack.push_async_callback(watcher.close)
        stack.push_async_callback(_forget_prepared, watcher)
        holder = await cluster.connect(database=database, command_timeout=PATIENCE_S)
        stack.push_async_callback(holder.close)
        await holder.execute(f"SELECT pg_advisory_lock({LOCK})")
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
        proxy = Proxy(
            cluster=cluster,
            ca=ca,
            folder=folder / "proxy",
            options=options,
            target={"access": _profiles(ca, folder / "proxy")},
            further={STRICT: {"lost_lease": "end-sessions"}, SHORT: {"finish_timeout_s": FINISH_S}},
            database=database,
        )
        control.jwks = proxy.signer.jwks
        if disk:
            stack.callback(small_disk(proxy.state, DISK_BYTES))
        stack.push_async_callback(asyncio.to_thread, proxy.close)
        accounts = await judging.accounts(watcher)
        made = Stand(proxy=proxy, control=control, watcher=watcher, holder=holder, database=database, accounts=accounts)
        await made.start()
        yield made


def _profiles(ca: Authority, folder: Path) -> dict[str, dict[str, Any]]:
    """One for each identity, and one each whose sessions must not be idle for long. All may do what APP may."""
    account = {"member_of": [roles.APP.user], "linger_s": 0}
    authority = {"ca_certificate_file": str(ca.file), "ca_key_file": str(ca.key())}
    by_identity: dict[str, dict[str, Any]] = {
        "app": {"user": roles.APP.user, "password": {"file": str(folder / f"{roles.APP.user}.password")}},
        "made": {"identity": "ephemeral", "account": account},
        "raised": {"identity": "elevated", "account": {**account, **authority}},
    }
    idle = {_profile(name, idles=True): {**one, "idle_timeout_s": IDLE_S} for name, one in by_identity.items()}
    return {**by_identity, **idle}


def _profile(identity: str, *, idles: bool) -> str:
    return f"{identity}-idle" if idles else identity


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


async def strike(stand: Stand, trigger: Trigger, *, turn: int, identities: Sequence[str] = IDENTITIES) -> Verdict:
    """Bring a session into each state, pull the trigger, and look what has become of them.

    Six turns have each state in every combination of `IDENTITIES` and end modes, or of finishing in time and not.
    """
    for lead_s in LEADS_S if trigger.expires else (LONG_S,):
        async with AsyncExitStack() as stack:
            try:
                await _set_tables(stand)
                mix = _Mix(turn, identities, time.time() + lead_s)
                sessions = await _bring_there(stand, trigger, stack, mix)
            except NotReadyError:
                continue
            return await _strike(stand, trigger, sessions)
    raise NotReadyError(f"{trigger.name}: not in {LEADS_S[-1]} s")


async def _strike(stand: Stand, trigger: Trigger, sessions: list[Running]) -> Verdict:
    going_on = [one for one in sessions if trigger.finishes and one.done]
    await trigger.pull(stand, sessions)
    struck = time.time()
    await asyncio.gather(_watch(stand, sessions), *(_go_on(stand, one) for one in going_on))
    for one in sessions:
        one.said += await one.wire.rest(within=PATIENCE_S)
    await trigger.undo(stand)
    await stand.holder.execute(f"SELECT pg_advisory_unlock_all(), pg_advisory_lock({LOCK})")
    wrong = await judging.left_over(stand, trigger)
    said_s: dict[str, float] = {}
    for one in sessions:
        faults = [*judging.told(trigger, one), *await judging.work(stand, trigger, one)]
        said_s[one.case.name] = await judging.recorded(stand, trigger, one, faults)
        wrong += [f"{trigger.name}, {one.what}: {fault}" for fault in faults]
    took_s = {one.case.name: one.gone - struck if one.gone else PATIENCE_S for one in sessions}
    took_s = said_s if trigger.by_itself or trigger.finishes else took_s
    return Verdict(trigger=trigger, wrong=wrong, took_s=took_s, said_s=said_s)


async def _go_on(stand: Stand, one: Running) -> None:
    """What the client does that hears of its grant's end: it lets what runs come to its end, and asks for more."""
    assert one.case.finished is not None
    one.said = await one.wire.until("N", within=PATIENCE_S)
    if one.case.event == "advisory":
        await stand.holder.execute("SELECT pg_advisory_unlock_all()")
    one.wire.send(one.case.finished.go_on + query(ONE_MORE))
    one.said += await one.wire.rest(within=PATIENCE_S)


@dataclass(frozen=True, slots=True)
class _Mix:
    """Which of the combinations each state has, and when the grants end."""

    turn: int
    identities: Sequence[str]
    expires_at: float

    def identity(self, number: int) -> str:
        return self.identities[(number + self.turn) % len(self.identities)]

    def other(self, number: int) -> bool:
        return (number + self.turn) % 2 == 1


async def _set_tables(stand: Stand) -> None:
    """As they are before each strike."""
    await _forget_prepared(stand.watcher)
    for number, _ in enumerate(CASES):
        await stand.watcher.execute(
            f"TRUNCATE {_schema(number)}.work; INSERT INTO {_schema(number)}.work SELECT generate_series(1, {ROWS})"
        )


async def _bring_there(stand: Stand, trigger: Trigger, stack: AsyncExitStack, mix: _Mix) -> list[Running]:
    """A session in each state."""
    chosen = [(number, case) for number, case in enumerate(CASES) if trigger.takes(case)]
    expires_at = mix.expires_at
    opened = await asyncio.gather(*(_open(stand, stack, trigger, what, mix) for what in chosen), return_exceptions=True)
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


async def _open(stand: Stand, stack: AsyncExitStack, trigger: Trigger, what: tuple[int, Case], mix: _Mix) -> Running:
    number, case = what
    grant, identity, other = new_grant_id(), mix.identity(number), mix.other(number)
    end = EndMode.FINISH if trigger.finishes or (other and not trigger.expires) else EndMode.HARD
    target = SHORT if trigger.finishes and not other else trigger.target
    profile = _profile(identity, idles=trigger.idles)
    named = make_grant(id=grant, person=_person(number), target=target, profile=profile, end=end)
    token = stand.proxy.signer.token(named, exp=mix.expires_at)
    wire = await stack.enter_async_context(await Wire.tls(stand.proxy.port, stand.proxy.ca.client_context()))
    options = f"-c search_path={_schema(number)}"
    if trigger.finishes and other:
        options += f" -c work.until={mix.expires_at + PAST_S} -c work.rows={READABLE}"
    await wire.log_in(token, ("user", _person(number)), ("database", target), ("options", options))
    await case.begin(wire)
    return Running(
        case=case,
        schema=_schema(number),
        wire=wire,
        grant=grant,
        expires_at=mix.expires_at,
        identity=identity,
        end=end,
        ends_in_time=trigger.finishes and other,
    )


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
