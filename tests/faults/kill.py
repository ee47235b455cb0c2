"""Campaign `kill`: SIGKILL the proxy at random points of pgbench runs, and hold its journal against PostgreSQL's log.

It is started again at once, as a service manager does: what the killed one left running must be ended by the next.
"""

import random
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeAlias

from proxy.contract.record import ChainError, SessionEnd, SessionStart, StatementStart, decode, verify_chain
from proxy.identity import load_or_create
from tests.faults.result import Result
from tests.harness import roles
from tests.harness.binaries import postgresql_bin
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.processes import Process, run
from tests.harness.proxy import Proxy
from tests.harness.serverlog import read_log
from tests.harness.waiting import TooLateError, eventually_sync

DATABASE = "bench"
CLIENTS = 4
MODES = (["-M", "simple"], ["-M", "prepared"], ["-M", "extended"], ["-M", "simple", "-C"])
"""pgbench's options, one set a round; -C is a new session for every transaction."""
SLEEP = "SELECT pg_sleep(600)"
"""What one more session does, and would go on to do."""
KILL_AFTER_S = (0.05, 1.0)
DEAD_MAN_S = 5.0

Statement: TypeAlias = tuple[int, str, tuple[str | None, ...]]
"""Which backend, what text, which values."""


def campaign(rounds: int, folder: Path) -> Result:
    """Kill the proxy once a round."""
    with ExitStack() as stack:
        ca = Authority(folder)
        cluster = stack.enter_context(Cluster(ca, log_statements=True))
        roles.install(cluster)
        roles.create_database(cluster, DATABASE)
        proxy = stack.enter_context(Proxy(cluster=cluster, ca=ca, folder=folder / "proxy"))
        run([postgresql_bin() / "pgbench", "-i", "-q"], environment=_environment(proxy))
        late = leftover = 0
        for number in range(rounds):
            late += _round(proxy, MODES[number % len(MODES)])
            leftover += _left_over(proxy)
        recorded, executed = _recorded(proxy), _executed(cluster)
        assert executed.total() > rounds * CLIENTS, "nothing was tried"
        assert len(crashed(proxy)) > rounds, "nothing was interrupted"
        leftover += _broken(proxy)
    return Result(
        campaign="kill",
        rounds=rounds,
        lost=(executed - recorded).total(),
        doubled=_doubled(recorded - executed),
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
        eventually_sync(lambda: not _backends(cluster), within=within)
    except TooLateError:
        return len(_backends(cluster))
    return 0


def _backends(cluster: Cluster) -> list[str]:
    return cluster.psql(f"SELECT pid FROM pg_stat_activity WHERE usename = '{roles.APP.user}'").split()


def _left_over(proxy: Proxy) -> int:
    """What of the killed proxy's sessions the next one has not put in order: backends, and sessions without an end."""
    with suppress(TooLateError):
        eventually_sync(lambda: not _unended(proxy))
    return len(_backends(proxy.cluster)) + len(_unended(proxy))


def _unended(proxy: Proxy) -> list[str]:
    return [session for session, lines in proxy.sessions().items() if not isinstance(decode(lines[-1]), SessionEnd)]


def _broken(proxy: Proxy) -> int:
    """How many sessions' chains or signatures do not verify."""
    key, broken = load_or_create(proxy.state).public_key(), 0
    for lines in proxy.sessions().values():
        try:
            verify_chain(lines, key)
        except ChainError:
            broken += 1
    return broken


# What was executed, and what was recorded.


def _executed(cluster: Cluster) -> Counter[Statement]:
    """Every statement that PostgreSQL says it executed for the proxy's sessions."""
    marker = f"the end of the log at {time.time_ns()}"
    cluster.psql(f"SELECT '{marker}'")
    eventually_sync(lambda: any(marker in line.message for line in read_log(cluster)))
    return Counter(
        (line.pid, line.statement, line.parameters)
        for line in read_log(cluster)
        if line.user == roles.APP.user and line.statement is not None
    )


def _recorded(proxy: Proxy) -> Counter[Statement]:
    """Every statement that the journal has."""
    found: Counter[Statement] = Counter()
    for lines in proxy.sessions().values():
        records = [decode(line) for line in lines]
        first = records[0]
        assert isinstance(first, SessionStart)
        found.update((first.backend_pid, one.sql, _values(one)) for one in records if isinstance(one, StatementStart))
    return found


def _values(record: StatementStart) -> tuple[str | None, ...]:
    return tuple(None if one.value is None else str(one.value) for one in record.parameters or ())


def _doubled(extra: Counter[Statement]) -> int:
    """Of what was recorded and not executed, what is more than the one statement a session can have in flight."""
    by_backend = Counter(pid for pid, _, _ in extra.elements())
    return sum(count - 1 for count in by_backend.values())


def crashed(proxy: Proxy) -> list[SessionEnd]:
    """The ends of the sessions whose proxy was killed."""
    return [one for one in proxy.ended() if one.reason == "crashed"]
