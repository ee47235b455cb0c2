"""The two accounts of what was run, PostgreSQL's log and the proxy's journal, and what is wrong with the journal.

It only reads. Backends are told apart by their start and pid, because a long run uses pids again.
"""

import time
from collections import Counter
from datetime import datetime
from typing import TypeAlias

from proxy.contract.record import LAST, SessionStart, StatementStart, decode
from proxy.contract.verification import ChainError, verify_chain
from proxy.identity import load_or_create
from tests.harness import roles
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy
from tests.harness.serverlog import read_log
from tests.harness.waiting import eventually_sync

Statement: TypeAlias = tuple[str, str, tuple[str | None, ...]]
"""Which backend, what text, which values."""


def is_session(user: str | None) -> bool:
    """Whether this is the login of a session's: the vaulted one, or an account made for a grant."""
    return user is not None and user.startswith("curfew_") and user != roles.KEEPER.user


def executed(cluster: Cluster) -> Counter[Statement]:
    """Every statement that PostgreSQL says it executed for the proxy's sessions."""
    marker = f"the end of the log at {time.time_ns()}"
    cluster.psql(f"SELECT '{marker}'")
    eventually_sync(lambda: any(marker in line.message for line in read_log(cluster)), within=60)
    return Counter(
        (line.session, line.statement, line.parameters)
        for line in read_log(cluster)
        if is_session(line.user) and line.statement is not None
    )


def recorded(proxy: Proxy) -> Counter[Statement]:
    """Every statement that the journal has."""
    found: Counter[Statement] = Counter()
    for lines in proxy.sessions().values():
        records = [decode(line) for line in lines]
        first = records[0]
        if not isinstance(first, SessionStart):
            continue  # it was refused
        backend = f"{int(datetime.fromisoformat(first.backend_start).timestamp()):x}.{first.backend_pid:x}"
        found.update((backend, one.sql, _values(one)) for one in records if isinstance(one, StatementStart))
    return found


def doubled(extra: Counter[Statement]) -> int:
    """Of what was recorded and not executed, what is more than the one statement a session can have in flight."""
    by_backend = Counter(backend for backend, _, _ in extra.elements())
    return sum(count - 1 for count in by_backend.values())


def unended(proxy: Proxy) -> list[str]:
    """The sessions without an end."""
    last = {session: decode(lines[-1]) for session, lines in proxy.sessions().items()}
    return [session for session, record in last.items() if not isinstance(record, LAST)]


def broken(proxy: Proxy) -> int:
    """How many sessions' chains or signatures do not verify."""
    key, found = load_or_create(proxy.state).public_key(), 0
    for lines in proxy.sessions().values():
        try:
            verify_chain(lines, key)
        except ChainError:
            found += 1
    return found


def backends(cluster: Cluster) -> list[str]:
    """The pids of the proxy's sessions' backends."""
    theirs = f"usename LIKE 'curfew\\_%' AND usename <> '{roles.KEEPER.user}'"
    return cluster.psql(f"SELECT pid FROM pg_stat_activity WHERE {theirs}").split()


def _values(record: StatementStart) -> tuple[str | None, ...]:
    return tuple(None if one.value is None else str(one.value) for one in record.parameters or ())
