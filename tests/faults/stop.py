"""Campaign `stop`: grants that end while something else is wrong, and whether access ends all the same.

Each round opens sessions in six states, strikes, and looks at the processes of PostgreSQL themselves: no backend may be
alive 5 s past the end of its grant, nor 5 s past the death of its proxy. Then all is put in order, and nothing may be
left: no session without an end, no changed row, no role, membership or password that was not there before, no broken
chain. In six rounds each state has all combinations of end mode (`finish` gives statements FINISH_S) and identity.
Control is the stand-in of `tests.integration.link`, behind a relay that can stall it.
"""

import asyncio
import functools
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.contract.grant import EndMode
from tests.bench.stop.sessions import ROWS, STATES, UNREAD, begin
from tests.faults.accounts import backends, broken, doubled, executed, is_session, recorded, unended
from tests.faults.progress import Progress
from tests.faults.result import Plan, Result
from tests.harness import faketime, roles
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proc import children
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.relay import Link, Relay
from tests.harness.tokens import grant as make_grant
from tests.harness.waiting import TooLateError, eventually
from tests.harness.wire import Wire
from tests.integration.link.stand_in import JOIN_TOKEN, StandIn
from tests.integration.session.matrix import small_disk
from tests.integration.session.triggers import PAGE_BYTES, can_mount

DATABASE = "stopped"
LEADS_S = (3.0, 10.0, 30.0)
"""How long the grants of a round last; a machine that is too busy to open its sessions in time gets the next."""
LONG_S = 60.0
"""Of grants whose sessions the fault itself is to end. Accounts may stay as long, where a clock is set to and fro."""
STRIKE_S = (0.0, 0.3)
MARGIN_S = 0.5
ALLOWED_S = 5.0
"""DESIGN.md, promise 3; for a grant's end too, with a fault in the way."""
PATIENCE_S = 90.0
STEP_S = 3_600
DISK_BYTES = 64 << 20
PROFILES = ("app", "made", "raised")
"""A stored login, a role made for the grant, the person's own."""
PERSON = "curfew_dba"
"""Of a name by which `tests.faults.accounts` knows a session's login."""
FINISH_S = 1.0
_ROLES = "SELECT rolname FROM pg_roles"
_PASSWORDS = "SELECT 'the password of ' || rolname FROM pg_authid WHERE rolpassword IS NOT NULL"
_MEMBERSHIPS = "SELECT roleid::regrole || ' to ' || member::regrole FROM pg_auth_members"


@dataclass(slots=True, kw_only=True)
class Stand:
    """What the rounds need."""

    proxy: Proxy
    control: StandIn
    line: Relay
    """From the proxy to control."""
    together: asyncio.Event
    """Set while control can be reached."""
    clock: faketime.Clock | None
    accounts: set[str]
    """Roles, memberships and passwords that belong there."""
    worst_s: dict[str, float] = field(default_factory=dict)
    """The longest that a backend has lived past its allowance's beginning, by fault."""
    back_s: float = 0.0
    """The longest that a proxy took to be back after its death: what the machine has of the 5 s."""
    longest_s: dict[str, float] = field(default_factory=dict)
    """The longest that an account has stayed once all was healed and every session had its end."""

    async def ready(self) -> None:
        """Wait until the proxy would admit somebody."""

        async def is_ready() -> bool:
            with suppress(OSError):
                return (await asyncio.to_thread(self.proxy.ops, "/readyz"))[0] == 200
            return False

        await eventually(is_ready, within=PATIENCE_S, what="the proxy to be ready")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong. Both functions return once it is done."""

    name: str
    strike: Callable[[Stand], Coroutine[None, None, None]]
    heal: Callable[[Stand], Coroutine[None, None, None]]
    ends: bool = False
    """It is to end the sessions itself: the 5 s run from the strike, and the grants last."""
    possible: Callable[[Stand], bool] = lambda _: True


# The faults.


async def _kill_proxy(stand: Stand) -> None:
    assert stand.proxy.process is not None
    await asyncio.to_thread(stand.proxy.process.kill)
    killed = time.monotonic()
    await asyncio.to_thread(stand.proxy.start)  # as systemd would
    stand.back_s = max(stand.back_s, time.monotonic() - killed)


async def _kill_worker(stand: Stand) -> None:
    assert stand.proxy.process is not None
    workers = children(stand.proxy.process.pid)
    os.kill(random.choice(workers), signal.SIGKILL)  # its sessions end now, the others with their grants


async def _kill_control(stand: Stand) -> None:
    await stand.control.stop()


async def _start_control(stand: Stand) -> None:
    await stand.control.start()


async def _part(stand: Stand) -> None:
    stand.together.clear()
    for link in stand.line.open:
        link.stall()


async def _unite(stand: Stand) -> None:
    stand.together.set()
    for link in stand.line.open:
        link.resume()


async def _restart(stand: Stand, how: signal.Signals) -> None:
    await asyncio.to_thread(stand.proxy.cluster.stop, how=how)
    await asyncio.to_thread(stand.proxy.cluster.start)


async def _fill(stand: Stand) -> None:
    with suppress(OSError), (stand.proxy.state / "ballast").open("wb", buffering=0) as file:
        while file.write(b"x" * PAGE_BYTES * 16):
            pass


async def _empty(stand: Stand) -> None:
    (stand.proxy.state / "ballast").unlink()


async def _step(stand: Stand, ahead_s: int) -> None:
    assert stand.clock is not None
    stand.clock.set(ahead_s)


async def _nothing(_: Stand) -> None:
    """It has healed by itself."""


def _has_clock(stand: Stand) -> bool:
    return stand.clock is not None


FAULTS = (
    Fault(name="proxy killed", strike=_kill_proxy, heal=_nothing, ends=True),
    Fault(name="worker killed", strike=_kill_worker, heal=_nothing),
    Fault(name="control killed", strike=_kill_control, heal=_start_control),
    Fault(name="control partitioned", strike=_part, heal=_unite),
    Fault(name="upstream restarted (fast)", strike=functools.partial(_restart, how=signal.SIGINT), heal=_nothing),
    Fault(name="upstream restarted (immediate)", strike=functools.partial(_restart, how=signal.SIGQUIT), heal=_nothing),
    Fault(name="disk full", strike=_fill, heal=_empty, possible=lambda _: can_mount()),
    Fault(
        name="clock stepped forward",
        strike=functools.partial(_step, ahead_s=STEP_S),
        heal=functools.partial(_step, ahead_s=0),
        ends=True,
        possible=_has_clock,
    ),
    Fault(
        name="clock stepped back",
        strike=functools.partial(_step, ahead_s=-STEP_S),
        heal=functools.partial(_step, ahead_s=0),
        possible=_has_clock,
    ),
)


# The campaign.


def campaign(plan: Plan, folder: Path) -> Result:
    """Each fault `plan.rounds` times."""
    ca = Authority(folder)
    with Cluster(ca, log_statements=True) as cluster:
        roles.install(cluster)
        roles.install_accounts(cluster)
        roles.let_keeper_alter(cluster, roles.APP.user)
        cluster.psql(f"CREATE ROLE {PERSON} LOGIN")
        roles.let_keeper_alter(cluster, PERSON)
        roles.create_database(cluster, DATABASE)
        work = f"CREATE TABLE work AS SELECT generate_series(1, {ROWS}) AS n; ALTER TABLE work OWNER TO"
        cluster.psql(f"{work} {roles.APP.user}", database=DATABASE)
        return asyncio.run(_campaign(plan, cluster, ca, folder))


async def _campaign(plan: Plan, cluster: Cluster, ca: Authority, folder: Path) -> Result:
    async with _stand(cluster, ca, folder) as stand:
        late: Counter[str] = Counter()
        leftover: Counter[str] = Counter()
        tried: Counter[str] = Counter()
        faults = [fault for fault in FAULTS if fault.possible(stand)]
        for fault in FAULTS:
            if fault not in faults:
                _say(f"stop: {fault.name}: not tried, this machine cannot")
        progress = Progress("stop", plan.rounds * len(faults))
        for turn in range(plan.rounds):
            for fault in faults:
                tried[fault.name] += 1
                late[fault.name] += await _round(stand, fault, turn)
                leftover[fault.name] += await _left_over(stand, fault)
                progress.step(f"late {late.total()}, leftover {leftover.total()}")
        kept, ran = recorded(stand.proxy), executed(cluster)
        for fault in faults:
            _say(
                f"stop: {fault.name}: {tried[fault.name]} rounds, late {late[fault.name]},"
                f" leftover {leftover[fault.name]}; the last backend gone after {stand.worst_s[fault.name]:.2f} s,"
                f" the last account {stand.longest_s[fault.name]:.1f} s after the rest was in order"
            )
        _say(f"stop: a proxy that was killed was back after {stand.back_s:.2f} s at most")
        return Result(
            campaign="stop",
            rounds=tried.total(),
            lost=(ran - kept).total(),
            doubled=doubled(kept - ran),
            late=late.total(),
            leftover=leftover.total() + broken(stand.proxy),
        )


@asynccontextmanager
async def _stand(cluster: Cluster, ca: Authority, folder: Path) -> AsyncIterator[Stand]:
    async with AsyncExitStack() as stack:
        together = asyncio.Event()
        together.set()

        async def wait(_: Link) -> bytes:
            await together.wait()
            return b""

        control = await stack.enter_async_context(StandIn(ca.server(folder=folder)))
        control.keeps = False
        line = await stack.enter_async_context(Relay(control.port, opening=wait))
        (folder / "join").touch(mode=0o600)
        (folder / "join").write_text(JOIN_TOKEN)
        join = {"url": f"https://localhost:{line.port}", "ca_file": str(ca.file)}
        options: dict[str, Any] = {
            "control": {**join, "join_token": {"file": str(folder / "join")}},
            "jwks_file": None,
            "workers": 2,
            "warn_before_s": [],
        }
        library = faketime.library()
        clock = None if library is None else faketime.Clock(folder, library)
        login = {"user": roles.APP.user, "password": {"file": str(folder / "proxy" / f"{roles.APP.user}.password")}}
        raised = {"member_of": [roles.APP.user], "elevate_by": "password"}
        access = {
            "app": login,
            "made": {"identity": "ephemeral", "account": {"preset": "readwrite"}},
            "raised": {"identity": "elevated", "account": raised},
        }
        target = {"access": access, "finish_timeout_s": FINISH_S}
        proxy = Proxy(
            cluster=cluster, ca=ca, folder=folder / "proxy", options=options, target=target, database=DATABASE
        )
        proxy.environment = {} if clock is None else clock.environment
        control.jwks = proxy.signer.jwks
        if can_mount():
            stack.callback(small_disk(proxy.state, DISK_BYTES))
        stack.push_async_callback(asyncio.to_thread, proxy.close)
        await asyncio.to_thread(proxy.start)
        accounts = await asyncio.to_thread(_accounts, cluster)
        made = Stand(proxy=proxy, control=control, line=line, together=together, clock=clock, accounts=accounts)
        await made.ready()
        yield made


async def _round(stand: Stand, fault: Fault, turn: int) -> int:
    """Open sessions, strike, wait for their ends, and heal. How many backends lived too long."""
    for lead_s in (LONG_S,) if fault.ends else LEADS_S:
        async with AsyncExitStack() as stack:
            expires_at = time.time() + lead_s
            try:
                pids = await _open(stand, stack, expires_at, turn)
            except TooLateError:
                continue
            await asyncio.sleep(random.uniform(*STRIKE_S))  # at any moment: that is the point
            since = min(time.time(), expires_at) if fault.ends else expires_at
            struck = asyncio.get_running_loop().create_task(fault.strike(stand))
            late = await _outlive(stand, fault, pids, since)
            await struck
        await fault.heal(stand)
        await stand.ready()
        return late
    raise TooLateError(f"{fault.name}: no sessions in {LEADS_S[-1]} s")


async def _open(stand: Stand, stack: AsyncExitStack, expires_at: float, turn: int) -> list[int]:
    """A session in each state. TooLateError where the grants were over first."""
    wires: list[Wire] = []

    async def open_one(number: int) -> None:
        profile = PROFILES[(number + turn) % len(PROFILES)]
        end = EndMode.FINISH if (number + turn) % 2 else EndMode.HARD
        made = make_grant(id=new_grant_id(), person=PERSON, profile=profile, end=end)
        token = stand.proxy.signer.token(made, exp=expires_at)
        wire = await stack.enter_async_context(await Wire.tls(stand.proxy.port, stand.proxy.ca.client_context()))
        await wire.log_in(token, ("user", PERSON), ("database", "orders"))
        await begin(wire, number)
        await wire.drain()
        if number != UNREAD:
            reading = asyncio.get_running_loop().create_task(_read(wire))
            stack.push_async_callback(asyncio.wait, [reading])
        wires.append(wire)

    opened = await asyncio.gather(*map(open_one, range(STATES)), return_exceptions=True)
    failed = [one for one in opened if isinstance(one, BaseException)]
    if time.time() > expires_at - MARGIN_S:
        raise TooLateError from (failed[0] if failed else None)
    if failed:
        raise failed[0]
    return [wire.pid for wire in wires]


async def _read(wire: Wire) -> None:
    """Read to the end, whatever it is."""
    with suppress(AssertionError, OSError, EOFError):
        await wire.bytes_left(within=LONG_S)


async def _outlive(stand: Stand, fault: Fault, pids: Sequence[int], since: float) -> int:
    """Wait for the end of these backends; how many are there 5 s after `since`."""

    def living() -> list[int]:
        return [pid for pid in pids if _is_backend(pid)]

    try:
        await eventually(lambda: not living(), within=max(0.0, since + ALLOWED_S - time.time()))
        late = 0
    except TooLateError:
        late = len(living())
        with suppress(TooLateError):
            await eventually(lambda: not living(), within=PATIENCE_S)
    took = max(0.0, time.time() - since)
    stand.worst_s[fault.name] = max(took, stand.worst_s.get(fault.name, 0.0))
    return late


def _is_backend(pid: int) -> bool:
    """Whether it is (still) a backend of a session's: its process's title says so."""
    with suppress(OSError):
        title = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        return title.startswith("postgres: ") and is_session(title.split()[1])
    return False


# What is left.


async def _left_over(stand: Stand, fault: Fault) -> int:
    """Whatever should not be there once all is in order again."""
    with suppress(TooLateError):
        await eventually(lambda: not unended(stand.proxy), within=PATIENCE_S)
    begun = time.monotonic()
    with suppress(TooLateError):
        in_order = functools.partial(asyncio.to_thread, _in_order, stand)
        await eventually(in_order, within=PATIENCE_S)
    took = time.monotonic() - begun
    stand.longest_s[fault.name] = max(took, stand.longest_s.get(fault.name, 0.0))
    found: Mapping[str, int] = await asyncio.to_thread(_count, stand)
    for what, count in found.items():
        if count:
            _say(f"stop: {fault.name}: {count} {what}")
    return sum(found.values())


def _in_order(stand: Stand) -> bool:
    return _accounts(stand.proxy.cluster) == stand.accounts


def _count(stand: Stand) -> dict[str, int]:
    cluster = stand.proxy.cluster
    return {
        "backends": len(backends(cluster)),
        "sessions without an end": len(unended(stand.proxy)),
        "roles, memberships and passwords": len(_accounts(cluster) ^ stand.accounts),
        "changed rows": int(cluster.psql("SELECT count(*) FROM work WHERE n < 0", database=DATABASE)),
    }


def _accounts(cluster: Cluster) -> set[str]:
    return {line for sql in (_ROLES, _MEMBERSHIPS, _PASSWORDS) for line in cluster.psql(sql).splitlines()}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 a command speaks to its caller
