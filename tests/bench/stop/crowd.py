"""Thousands of sessions on a fake upstream, whose grants end in the same instant: until each client is told and closed.

The upstream (`fake`) and the clients (`clients`) are a process each, and what they do then is little: hang up on whom
the keeper names, and read one message. What is measured is the proxy; how much of a processor each of them had is said.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy.contract.record import SessionEnd
from tests.bench.pressure.finding import Finding
from tests.bench.stop.amount import LEADS_S, Amount, missed, spread
from tests.bench.stop.fake import KEEPER
from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.processes import Process
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.tokens import grant as make_grant
from tests.harness.waiting import eventually_sync

WITHIN_S = 120.0
LONGEST_S = 600.0
"""For all to get in, where a thousand of them take so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """The proxy, its upstream, and how many sessions there are to be."""

    proxy: Proxy
    fake: Process
    count: int


def measure(amount: Amount, say: Callable[[str], None]) -> list[Finding]:
    """End `amount.crowd` of them at once."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="curfew-stop-") as place, _stand(Path(place), amount) as stand:
        for lead_s in (*LEADS_S, LONGEST_S):
            expires_at = time.time() + lead_s
            tokens = Path(place) / "tokens"
            tokens.touch(mode=0o600)
            tokens.write_text("".join(_token(stand.proxy, expires_at) + "\n" for _ in range(amount.crowd)))
            clients = Process(
                [
                    sys.executable,
                    "-m",
                    "tests.bench.stop.clients",
                    str(stand.proxy.port),
                    str(stand.proxy.ca.file),
                    str(tokens),
                ]
            )
            try:
                if not _get_there(clients, expires_at):
                    continue
                return _ended(stand, clients, expires_at, say)
            finally:
                clients.kill()
    raise RuntimeError(f"{amount.crowd} clients were not there in {LONGEST_S:g} s")


def _token(proxy: Proxy, expires_at: float) -> str:
    return proxy.signer.token(make_grant(id=new_grant_id(), profile="app"), exp=expires_at)


def _get_there(clients: Process, expires_at: float) -> bool:
    """Whether all of them are in a session before the end."""
    try:
        clients.wait_for_output("there\n", within=max(1.0, expires_at - time.time() - 0.5))
    except AssertionError:
        return False
    return time.time() < expires_at - 0.5


@contextmanager
def _stand(folder: Path, amount: Amount) -> Iterator[Stand]:
    """The upstream and the proxy."""
    ca = Authority(folder)
    with Process([sys.executable, "-m", "tests.bench.stop.fake"]) as fake:
        port = int(fake.wait_for_output("port ").split()[1])
        options = {
            "workers": amount.workers,
            "max_sessions": amount.crowd,
            "max_connections": 2 * amount.crowd,
            "max_unauthenticated_per_address": 1_000,
            "warn_before_s": [],
        }
        login = {"access": {"app": {"user": roles.APP.user}}, "keeper": {"user": KEEPER}}
        target = {"host": "127.0.0.1", "port": port, "sslmode": "disable", "max_protocol_version": "3.0", **login}
        # The cluster is a name for the harness; it is never started.
        with Proxy(cluster=Cluster(ca), ca=ca, folder=folder / "proxy", options=options, target=target) as proxy:
            eventually_sync(lambda: proxy.ops("/readyz")[0] == 200, within=30, what="the keeper")
            yield Stand(proxy=proxy, fake=fake, count=amount.crowd)


def _ended(stand: Stand, clients: Process, expires_at: float, say: Callable[[str], None]) -> list[Finding]:
    proxy, fake, count = stand.proxy, stand.fake, stand.count
    assert proxy.process is not None
    before = [_cpu_s(process) for process in (proxy.process, fake, clients)]
    clients.wait_for_output("]]\n", within=expires_at - time.time() + WITHIN_S)
    used = [_cpu_s(process) - had for process, had in zip((proxy.process, fake, clients), before, strict=True)]
    ends: list[tuple[float | None, float | None]] = json.loads(clients.output.splitlines()[-1])
    eventually_sync(lambda: len(_ends(proxy, expires_at)) >= count, within=WITHIN_S, what="the records of all")
    told = [at - expires_at for at, _ in ends if at is not None]
    closed = [at - expires_at for _, at in ends if at is not None]
    ended = [one for one in _ends(proxy, expires_at) if one.gone_at is not None]
    inside = [((one.gone_at or 0) - one.decided_at) / 1e9 for one in ended]
    cpu = ", ".join(
        f"{name} {seconds:.2f} s" for name, seconds in zip(("proxy", "upstream", "clients"), used, strict=True)
    )
    say(f"crowd  {count} sessions ended at once; processor time meanwhile: {cpu}")
    return [
        *spread(f"{count} sessions, grant's end to client told", told or [WITHIN_S]),
        *spread("    grant's end to connection closed", closed or [WITHIN_S]),
        *spread("    decision to backend gone, by the record", inside or [WITHIN_S]),
        missed("    clients that were not told", count - len(told)),
        missed("    connections that were not closed", count - len(closed)),
        missed("    sessions without a verified end on record", count - len(ended)),
    ]


def _ends(proxy: Proxy, since: float) -> list[SessionEnd]:
    """Those that were decided at the grants' end: not those of clients that came too late for an earlier one."""
    return [one for one in proxy.ended() if one.reason == "expired" and one.decided_at >= since * 1e9]


def _cpu_s(process: Process) -> float:
    """Of the process and its children (the workers)."""
    pids = [process.pid, *map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())]
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / 100
