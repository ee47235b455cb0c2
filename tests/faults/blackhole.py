"""Campaign `blackhole`: the network between three clients and the proxy swallows everything, and nobody says so.

A real one: the clients are in a network namespace of their own, out of which nothing comes any more. TCP's keepalive
finds those that are idle or in a statement, within 90 s. The proxy itself finds those with data on their way to them
(`proxy.vanished`): one that a COPY fills, and two that are warned of their grant's end just then. The campaign runs in
a namespace too, so that it changes nothing on the machine; that takes root, and without, nothing is tried.
"""

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from proxy.contract.record import SessionEnd, SessionStart, decode
from tests.faults.accounts import backends, broken, unended
from tests.faults.result import Plan, Result
from tests.harness import roles
from tests.harness.binaries import postgresql_bin
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.processes import Process, run
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.waiting import TooLateError, eventually_sync

HERE, THERE = "10.213.7.1", "10.213.7.2"
OURS, THEIRS = "curfew0", "curfew1"
FOUND_OUT_S = 115.0
"""60 s of silence, and three probes 10 s apart, or 90 s without an answer and a look; a few seconds for the machine."""
WARNED_S, UNWARNED_S = 300.0, 3_000.0
"""How long grants last."""
WARNED_AFTER_S = 20.0
NOBODY = "02:00:00:00:00:99"
ENDLESS = "COPY (SELECT repeat('x', 1000), generate_series(1, 100000000)) TO STDOUT"
CLIENTS: Mapping[str, tuple[str, str, float]] = {
    r"\! sleep 1000": ("idle", "closed", UNWARNED_S),
    r"\! sleep 1001": ("idle", "closed", WARNED_S),
    "SELECT pg_sleep(1000)": ("active", "client_lost", UNWARNED_S),
    "SELECT pg_sleep(1001)": ("active", "client_lost", WARNED_S),
    ENDLESS: ("active", "client_lost", UNWARNED_S),
}
"""What psql does: its backend's state then, its record's reason in the end, and how long its grant lasts."""


def campaign(_: Plan, folder: Path) -> Result:
    """Once, however many rounds are asked for: it takes two minutes."""
    if os.geteuid() != 0:
        print("blackhole: not tried, for it takes root", file=sys.stderr)  # noqa: T201 a command speaks to its caller
        return Result(campaign="blackhole", rounds=0, lost=0, doubled=0, late=0, leftover=0)
    command = ["unshare", "-n", sys.executable, "-m", "tests.faults.blackhole", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Result(**json.loads(done.stdout))


@contextmanager
def _other_side() -> Iterator[list[str]]:
    """A namespace behind a link; what to put before a command to run it there."""
    run(["ip", "link", "set", "lo", "up"])
    ours = Path("/proc/self/ns/net").readlink()
    with Process(["unshare", "-n", "sleep", "1000"]) as holder:
        eventually_sync(lambda: Path(f"/proc/{holder.pid}/ns/net").readlink() != ours)
        there = ["nsenter", "-t", str(holder.pid), "-n"]
        run(["ip", "link", "add", OURS, "type", "veth", "peer", "name", THEIRS, "netns", str(holder.pid)])
        for before, address, name in (([], HERE, OURS), (there, THERE, THEIRS)):
            run([*before, "ip", "address", "add", f"{address}/24", "dev", name])
            run([*before, "ip", "link", "set", name, "up"])
        yield there


def inside(folder: Path) -> Result:
    """In a namespace of its own."""
    ca = Authority(folder)
    with ExitStack() as stack:
        there = stack.enter_context(_other_side())
        cluster = stack.enter_context(Cluster(ca))
        roles.install(cluster)
        proxy = Proxy(cluster=cluster, ca=ca, folder=folder / "proxy")
        # A warning is data on its way, too, and keepalive waits for the end of that.
        proxy.options = {"listen": [f"{HERE}:{proxy.port}"], "warn_before_s": [WARNED_S - WARNED_AFTER_S]}
        stack.enter_context(proxy)
        before = proxy.descriptors() + proxy.metrics()["curfew_tasks"]
        grants: dict[str, str] = {}
        for command, (state, _, lasts_s) in CLIENTS.items():
            grant = new_grant_id()
            environment = proxy.psql_env(proxy.token(id=grant, lasts_s=lasts_s), PGHOSTADDR=HERE)
            psql: list[str | Path] = [*there, postgresql_bin() / "psql", "-X", "-o", "/dev/null", "-c", command]
            stack.enter_context(Process(psql, environment=environment))
            _wait_for(cluster, state, len(grants))
            grants[grant] = command
        # The links stay up and the neighbours known: a probe that the kernel itself cannot send is not counted as one.
        for before_it, address, name in (([], THERE, OURS), (there, HERE, THEIRS)):
            run([*before_it, "ip", "neigh", "replace", address, "lladdr", NOBODY, "dev", name, "nud", "permanent"])
        late = _late(backends(cluster), time.monotonic())
        with suppress(TooLateError):
            eventually_sync(lambda: not unended(proxy))
        held = proxy.descriptors() + proxy.metrics()["curfew_tasks"] - before
        leftover = len(backends(cluster)) + len(unended(proxy)) + broken(proxy) + max(0, int(held))
        leftover += _wrong(proxy, grants)
    return Result(campaign="blackhole", rounds=len(CLIENTS), lost=0, doubled=0, late=late, leftover=leftover)


def _wait_for(cluster: Cluster, state: str, number: int) -> None:
    """Wait until the backend of this number, by age, is in this state."""
    asked = f"SELECT state FROM pg_stat_activity WHERE usename = '{roles.APP.user}' ORDER BY backend_start"
    eventually_sync(lambda: cluster.psql(asked).splitlines()[number:] == [state])


def _late(pids: Sequence[str], since: float) -> int:
    """Wait for the backends' ends; how many outlive their time."""
    for most in reversed(range(len(pids))):
        _within(since + FOUND_OUT_S - time.monotonic(), functools.partial(_at_most, most, pids))
        said = f"blackhole: {_living(pids)} left after {time.monotonic() - since:.1f} s"
        print(said, file=sys.stderr)  # noqa: T201 a command speaks to its caller
    return _living(pids)


def _living(pids: Sequence[str]) -> int:
    return sum(Path(f"/proc/{pid}").exists() for pid in pids)


def _at_most(most: int, pids: Sequence[str]) -> bool:
    return _living(pids) <= most


def _within(seconds: float, so: Callable[[], bool]) -> bool:
    """Whether it comes to be so in time."""
    with suppress(TooLateError):
        return eventually_sync(so, within=seconds)
    return False


def _wrong(proxy: Proxy, grants: Mapping[str, str]) -> int:
    """How many sessions' records do not say what happened."""
    found = 0
    for lines in proxy.sessions().values():
        first, last = decode(lines[0]), decode(lines[-1])
        assert isinstance(first, SessionStart)
        _, reason, _ = CLIENTS[grants[first.grant]]
        if not (isinstance(last, SessionEnd) and last.reason == reason):
            found += 1
            print(f"{grants[first.grant]}: {last}", file=sys.stderr)  # noqa: T201 a command speaks to its caller
    return found


if __name__ == "__main__":
    print(json.dumps(asdict(inside(Path(sys.argv[1])))))  # noqa: T201 a command speaks to its caller
