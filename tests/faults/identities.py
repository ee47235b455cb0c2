"""Campaign `identities`: SIGKILL at each step of making an account and of taking it down, and look what is left.

A step is a statement to PostgreSQL. The process that makes and ends one account dies either right after sending it, so
that it may be done or not, or with its answer in hand; the next process, on the same state folder, must leave nothing:
no role, no membership, no line in the ledger. With CURFEW_FAULTS_VERSIONS=14,18 in the environment it is those versions
of PostgreSQL; by default it is the usual one.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy.contract.settings import AccessProfile
from proxy.query import Connection, Row
from tests.faults.progress import Progress
from tests.faults.result import Plan, Result
from tests.harness import roles
from tests.harness.binaries import postgresql_bin, version_bin
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.waiting import TooLateError, eventually
from tests.integration.accounts import stand
from tests.integration.accounts.stand import Stand, by_password, elevated, ephemeral, new_grant

Moment: TypeAlias = Literal["sent", "answered"]

HBA = ["hostssl all +staff 127.0.0.1/32 cert"]
PERSON, OTHER = "killed", "killed_too"
"""Who logs in by certificate, and who by password."""


def campaign(plan: Plan, folder: Path) -> Result:
    """Kill at as many steps as there are rounds, spread over all of them, for each kind of account."""
    named = os.environ.get("CURFEW_FAULTS_VERSIONS", "")
    programs = [version_bin(int(one)) for one in named.split(",") if one] or [postgresql_bin()]
    kills = leftover = 0
    for number, program in enumerate(programs):
        with ExitStack() as stack:
            settings = {"max_prepared_transactions": "10"}
            ca = Authority(_made(folder / f"ca{number}"))
            cluster = stack.enter_context(Cluster(ca, programs=program, hba=HBA, settings=settings))
            _install(cluster)
            profiles = {
                "ephemeral": ephemeral(preset="ddl", setup_sql=["GRANT team TO {account}"]),
                "elevated": elevated(cluster, preset="ddl"),
                "by password": by_password(preset="ddl"),
            }
            for name, profile in profiles.items():
                place = _made(folder / f"{number} {name}")
                steps = _steps(cluster, profile, place)
                every = max(1, steps * 2 // plan.rounds)
                moments = _all_moments(steps)[::every]
                progress = Progress(f"identities: {name}", len(moments))
                for step, moment in moments:
                    kills += _killed(cluster, profile, place, step, moment)
                    leftover += _left(cluster, profile, place)
                    progress.step(f"leftover {leftover}")
    assert kills, "nothing was killed"
    return Result(campaign="identities", rounds=kills, lost=0, doubled=0, late=0, leftover=leftover)


def _all_moments(steps: int) -> list[tuple[int, Moment]]:
    moments: tuple[Moment, ...] = ("sent", "answered")
    return [(step, moment) for step in range(1, steps + 1) for moment in moments]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _install(cluster: Cluster) -> None:
    stand.install(cluster)
    stand.create_person(cluster, PERSON)
    cluster.psql(f"CREATE ROLE {OTHER} LOGIN")
    roles.let_keeper_alter(cluster, OTHER)


def _steps(cluster: Cluster, profile: AccessProfile, place: Path) -> int:
    """How many statements it takes when nothing goes wrong."""
    reading, writing = os.pipe()

    def count() -> None:
        counted = _interrupt(0, "sent")
        asyncio.run(_life(cluster, profile, place))
        os.write(writing, str(len(counted)).encode())

    assert _in_child(count) == 0
    os.close(writing)
    with os.fdopen(reading) as pipe:
        return int(pipe.read())


def _killed(cluster: Cluster, profile: AccessProfile, place: Path, step: int, moment: Moment) -> bool:
    """Run the life of one account up to `step`; whether it was killed there."""

    def run() -> None:
        _interrupt(step, moment)
        asyncio.run(_life(cluster, profile, place))

    return _in_child(run) == -signal.SIGKILL


def _in_child(work: Callable[[], None]) -> int:
    """What became of a process that does `work`: its status, or the signal as a negative number."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 nothing of the parent's may be run by the child
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _interrupt(step: int, moment: Moment) -> list[str]:
    """Have this process die at its `step`th statement. Returns the statements so far, as they grow."""
    seen: list[str] = []
    fetch = Connection.fetch

    async def dying(self: Connection, sql: str, *values: str | None, timeout_s: float) -> list[Row]:
        seen.append(sql)
        if len(seen) != step:
            return await fetch(self, sql, *values, timeout_s=timeout_s)
        asking = fetch(self, sql, *values, timeout_s=timeout_s)
        if moment == "sent":
            asking.send(None)  # up to where it waits for the answer
        else:
            await asking
        os.kill(os.getpid(), signal.SIGKILL)
        return []

    Connection.fetch = dying  # type: ignore[method-assign]
    return seen


async def _life(cluster: Cluster, profile: AccessProfile, place: Path) -> None:
    """One account, from its making to its end, with something to hand over."""
    async with Stand(cluster=cluster, folder=place, profile=profile, key=Ed25519PrivateKey.generate()) as process:
        made = new_grant(person=OTHER if profile.account.elevate_by == "password" else PERSON)
        working = await process.connect(made)
        await working.run("BEGIN; CREATE TABLE IF NOT EXISTS shop.left_over (a int)")
        working.leave("revoked")
        await eventually(lambda: not process.ledger.entries, within=60)


def _left(cluster: Cluster, profile: AccessProfile, place: Path) -> int:
    """What is still there when the next process has had its time."""

    async def look() -> int:
        async with Stand(cluster=cluster, folder=place, profile=profile, key=Ed25519PrivateKey.generate()) as process:
            try:
                await eventually(lambda: not process.ledger.entries, within=60)
            except TooLateError:
                return len(process.ledger.entries)
        rows = await cluster.sql(
            "SELECT rolname FROM pg_roles WHERE rolname LIKE 'curfew\\_%grt\\_%' UNION ALL"
            " SELECT roleid::regrole::text FROM pg_auth_members"
            " WHERE member IN (SELECT oid FROM pg_roles WHERE rolname = ANY ($1)) AND roleid <> 'staff'::regrole"
            " UNION ALL SELECT rolname FROM pg_authid WHERE rolname = ANY ($1) AND rolpassword IS NOT NULL",
            [PERSON, OTHER],
        )
        return len(rows)

    return asyncio.run(look())
