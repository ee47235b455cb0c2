"""What is wrong with sessions of the matrix (`matrix`) after a trigger has struck: a line for each fault."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import asyncpg

from proxy.contract.record import AnyRecord, Copy, SessionEnd, StatementEnd, StatementStart, decode
from tests.harness.waiting import TooLateError, eventually
from tests.integration.session.stops import ROWS
from tests.integration.session.triggers import FINISH_S, Trigger

if TYPE_CHECKING:
    from tests.integration.session.matrix import Running, Stand

PATIENCE_S = 60.0
AS_GIVEN_S = 0.1
USUAL_FINISH_S = 60.0
ONE_MORE = "INSERT INTO work VALUES (-1000)"
"""What no session may begin once its end is decided."""
_ACCOUNTS = """SELECT rolname FROM pg_roles
    UNION ALL SELECT roleid::regrole || ' to ' || member::regrole FROM pg_auth_members"""


async def accounts(watcher: "asyncpg.Connection[asyncpg.Record]") -> frozenset[str]:
    """Every role and membership that there is."""
    return frozenset(row[0] for row in await watcher.fetch(_ACCOUNTS))


async def left_over(stand: "Stand", trigger: Trigger) -> list[str]:
    """No account and no membership outlives the sessions that it was made for."""

    async def in_order() -> bool:
        return await accounts(stand.watcher) == stand.accounts

    try:
        await eventually(in_order, within=PATIENCE_S)
    except TooLateError:
        left = sorted(await accounts(stand.watcher) ^ stand.accounts)
        return [f"{trigger.name}: roles and memberships are left, or missing: {left}"]
    return []


def told(trigger: Trigger, one: "Running") -> list[str]:
    """The client has been told why, in the last message it got."""
    if not one.said or one.said[-1].kind != "E":
        return [f"the client was told nothing: {[str(said) for said in one.said[-2:]]}"]
    told = one.said[-1].fields
    if (told["S"], told["V"], told["C"]) != ("FATAL", "FATAL", trigger.sqlstate) or trigger.says not in told["M"]:
        return [f"the client was told {told}"]
    if trigger.reason != "journal" and not told["D"].startswith("Work that was open: "):
        return [f"the client was not told what became of its work: {told}"]
    return []


async def work(stand: "Stand", trigger: Trigger, one: "Running") -> list[str]:
    """Nothing that ran is committed, but for what was let finish and did; and all that was is there."""
    if not one.gone:
        return ["its backend lives"]
    counted = f"SELECT count(*) FILTER (WHERE n < 0), count(*) FILTER (WHERE n > 0) FROM {one.schema}.work"
    row = await stand.watcher.fetchrow(counted)
    assert row is not None
    finished = one.case.finished if trigger.finishes and one.done else None
    expected = (one.case.changed, ROWS) if finished is None else (finished.changed, finished.unchanged)
    found = [] if tuple(row) == expected else [f"{row[0]} rows changed, {row[1]} not"]
    # One that a role made for the grant has prepared is rolled back with it.
    prepared = 0 if one.identity == "made" else one.case.prepared
    counted = "SELECT count(*) FROM pg_prepared_xacts WHERE gid = $1"
    if (count := await stand.watcher.fetchval(counted, f"of {one.wire.pid}")) != prepared:
        found.append(f"{count} prepared transactions")
    return found


async def recorded(stand: "Stand", trigger: Trigger, one: "Running", faults: list[str]) -> float:
    """How long the end took by the session's records; what is wrong with any goes to `faults`."""
    records = [decode(line) for line in await stand.proxy.session_of(one.grant)]
    last = records[-1]
    assert isinstance(last, SessionEnd)
    done = trigger.finishes and one.done
    copies = tuple(record.direction for record in records if isinstance(record, Copy) and record.failed)
    if copies != (() if done else one.case.copies):
        faults.append(f"records of COPY: {copies}")
    if last.reason != trigger.reason:
        faults.append(f"the record's reason is {last.reason}")
    if last.outcome not in ({"committed before"} if done else one.case.outcomes | trigger.outcomes):
        faults.append(f"the record's outcome is {last.outcome!r}")
    detail = one.said[-1].fields.get("D", "") if one.said and one.said[-1].kind == "E" else ""
    later = " What was asked since then was not run." if done else ""
    if trigger.reason != "journal" and detail.removesuffix(later) != f"Work that was open: {last.outcome}.":
        faults.append(f"the record says {last.outcome!r}, the client was told {detail!r}")
    if last.gone_at is None or last.gone_at <= last.decided_at:
        faults.append(f"decided at {last.decided_at}, gone at {last.gone_at}")
    if trigger.expires and last.decided_at / 1e9 < one.expires_at:
        faults.append("decided before the grant's end")
    if any(isinstance(record, StatementStart) and record.sql == ONE_MORE for record in records):
        faults.append("another statement began")
    return ((last.gone_at or 0) - _stopped_at(trigger, one, records, last, faults)) / 1e9


def _stopped_at(
    trigger: Trigger, one: "Running", records: Sequence[AnyRecord], last: SessionEnd, faults: list[str]
) -> int:
    """When the backend was due to end. What is wrong with the record's `finish` goes to `faults`."""
    finish = last.finish
    if finish is None or not trigger.finishes or one.case.finished is None:
        if (finish is not None) != (trigger.finishes and one.case.finished is not None):
            faults.append(f"the record says of what may finish: {finish}")
        return last.decided_at
    how, given_s = ("done", USUAL_FINISH_S) if one.done else ("timeout", FINISH_S)
    if finish.ended != how or finish.decided_at != last.decided_at or last.running is None:
        faults.append(f"the record says of what may finish: {finish}, {how!r} was due")
    if abs((finish.until - finish.decided_at) / 1e9 - given_s) > AS_GIVEN_S:
        faults.append(f"it had {(finish.until - finish.decided_at) / 1e9} s to finish, not {given_s}")
    if not one.done:
        return finish.until
    return max((record.at for record in records if isinstance(record, StatementEnd)), default=last.decided_at)
