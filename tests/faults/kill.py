"""Campaign `kill`: SIGKILL the proxy at random points of pgbench runs, and hold its journal against PostgreSQL's log.

It is started again at once, as a service manager does: what the killed one left running must be ended by the next.
With CURFEW_PROXY__WORKERS=2 in the environment it is the supervisor of two workers that is killed.
"""

import random
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from proxy.contract.record import SessionEnd
from tests.faults.accounts import backends, broken, doubled, executed, recorded, unended
from tests.faults.progress import Progress
from tests.faults.result import Plan, Result
from tests.harness import roles
from tests.harness.binaries import postgresql_bin
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.processes import Process, run
from tests.harness.proxy import Proxy
from tests.harness.waiting import TooLateError, eventually_sync

DATABASE = "bench"
CLIENTS = 4
MODES = (["-M", "simple"], ["-M", "prepared"], ["-M", "extended"], ["-M", "simple", "-C"])
"""pgbench's options, one set a round; -C is a new session for every transaction."""
SLEEP = "SELECT pg_sleep(600)"
"""What one more session does, and would go on to do."""
KILL_AFTER_S = (0.05, 1.0)
DEAD_MAN_S = 5.0


def campaign(plan: Plan, folder: Path) -> Result:
    """Kill the proxy once a round."""
    rounds = plan.rounds
    with ExitStack() as stack:
        ca = Authority(folder)
        cluster = stack.enter_context(Cluster(ca, log_statements=True))
        roles.install(cluster)
        roles.create_database(cluster, DATABASE)
        proxy = stack.enter_context(Proxy(cluster=cluster, ca=ca, folder=folder / "proxy"))
        run([postgresql_bin() / "pgbench", "-i", "-q"], environment=_environment(proxy))
        late = leftover = 0
        progress = Progress("kill", rounds)
        for number in range(rounds):
            late += _round(proxy, MODES[number % len(MODES)])
            leftover += _left_over(proxy)
            progress.step(f"late {late}, leftover {leftover}")
        kept, ran = recorded(proxy), executed(cluster)
        assert ran.total() > rounds * CLIENTS, "nothing was tried"
        assert len(crashed(proxy)) > rounds, "nothing was interrupted"
        leftover += broken(proxy)
    return Result(
        campaign="kill",
        rounds=rounds,
        lost=(ran - kept).total(),
        doubled=doubled(kept - ran),
        late=late,
        leftover=leftover,
    )


def _environment(proxy: Proxy) -> dict[str, str]:
    return proxy.psql_env(PGDATABASE=f"orders/{DATABASE}")


def _round(proxy: Proxy, mode: list[str]) -> int:
    """Run pgbench, kill the proxy, start it again; how many backends outlived it for too long."""
    records, sleepers = len(proxy.lines()), _sleepers(proxy)
    bench: list[str | Path] = [postgresql_bin() / "pgbench", "-n", "-T", "60", "-c", str(CLIENTS), *mode]
    sleep: list[str | Path] = [postgresql_bin() / "psql", "-X", "-c", SLEEP]
    with Process(bench, environment=_environment(proxy)), Process(sleep, environment=_environment(proxy)):
        eventually_sync(lambda: len(proxy.lines()) > records + CLIENTS, what="pgbench's first statements")
        eventually_sync(lambda: _sleepers(proxy) > sleepers, what="the sleeper")
        time.sleep(random.uniform(*KILL_AFTER_S))  # at any moment of the run: that is the point
        assert proxy.process is not None
        proxy.process.kill()
        killed = time.monotonic()
    proxy.start()
    return _outlive(proxy.cluster, killed + DEAD_MAN_S - time.monotonic())


def _sleepers(proxy: Proxy) -> int:
    return sum(SLEEP.encode() in line for line in proxy.lines())


def _outlive(cluster: Cluster, within: float) -> int:
    """How many backends are still there when the dead man's switch should have ended them."""
    try:
        eventually_sync(lambda: not backends(cluster), within=within)
    except TooLateError:
        return len(backends(cluster))
    return 0


def _left_over(proxy: Proxy) -> int:
    """What of the killed proxy's sessions the next one has not put in order: backends, and sessions without an end."""
    with suppress(TooLateError):
        eventually_sync(lambda: not unended(proxy))
    return len(backends(proxy.cluster)) + len(unended(proxy))


def crashed(proxy: Proxy) -> list[SessionEnd]:
    """The ends of the sessions whose proxy was killed."""
    return [one for one in proxy.ended() if one.reason == "crashed"]
