"""The conversation that every client has through the proxy, what it must say, and what must be on record of it.

PostgreSQL's own log is the other account: statements and values, each as often.
"""

import base64
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from proxy.contract.record import AnyRecord, Cancel, Copy, Parameter, StatementEnd, StatementStart
from tests.clients.programs import Program, environment
from tests.clients.stand import Stand, Statement
from tests.harness.processes import run

SAID: Mapping[str, tuple[str, ...]] = {
    "simple": ("simple",),
    "values": ("41|it's Zoë\\;|1.5|t|\\x00ff|NULL",),
    "prepared": ("3",),  # rows, after three executions of one prepared statement
    "error": ("23505", "3"),  # a transaction's error, and the rows after its rollback
    "batch": ("23",),
    "copy": ("5000",),  # bytes out, of a thousand rows that were copied in
    "notify": ("by me",),
    "cancel": ("57014",),
    "big": ("20000000",),
}
"""The steps, and what each gives."""
BOUND = ("41", "it's Zoë\\;", "1.5", "t", "\\x00ff", None)
BIG_ROWS = 20_000
WITHIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a client did, and what was recorded of it."""

    client: str
    version: str
    negotiation: str
    steps: tuple[str, ...]
    statements: int
    values: int
    copied: tuple[int, ...]
    cancels: int
    faults: tuple[str, ...]
    """Where it was otherwise than it must be."""


async def converse(program: Program, stand: Stand, *, negotiation: str = "postgres") -> Result:
    """Have the program's conversation in the stand's database, and hold the accounts of it against each other."""
    surroundings = {**stand.environment, **environment(), "PGSSLNEGOTIATION": negotiation}
    if negotiation == "postgres":
        del surroundings["PGSSLNEGOTIATION"]  # older libpqs do not know it
    del surroundings["PGPASSWORD"], surroundings["PGHOSTADDR"]
    done = run(
        program.command("converse"), environment=surroundings, text=f"{stand.token}\n", within=WITHIN_S, check=False
    )
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    said = {step: tuple(fields) for step, *fields in lines if step != "loaded"}
    records = await stand.records()
    recorded, executed = statements(records), await stand.executed()
    faults = [*wrong(said), *missing(recorded, executed), *unrecorded(records)]
    return Result(
        client=program.name,
        version=program.version(),
        negotiation=negotiation,
        steps=tuple(said),
        statements=recorded.total(),
        values=sum(len(values) * count for (_, values), count in recorded.items()),
        copied=tuple(one.bytes for one in records if isinstance(one, Copy)),
        cancels=sum(isinstance(one, Cancel) for one in records),
        faults=tuple(faults + ([done.stderr] if faults else [])),
    )


def wrong(said: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Steps that gave something else."""
    return [
        f"{step}: {said.get(step)} instead of {expected}"
        for step, expected in SAID.items()
        if said.get(step) != expected
    ]


def shown(parameter: Parameter) -> str | None:
    """A recorded value as PostgreSQL's log has it."""
    if parameter.base64 is not None:
        return "\\x" + base64.b64decode(parameter.base64).hex()
    if parameter.value is None:
        return None
    text = str(parameter.value)
    return text[0].lower() if text.lower() in ("true", "false") else text  # some clients send the word


def statements(records: list[AnyRecord]) -> Counter[Statement]:
    """What the journal says was run."""
    return Counter(
        (one.sql, tuple(shown(value) for value in one.parameters or ()))
        for one in records
        if isinstance(one, StatementStart)
    )


def missing(recorded: Counter[Statement], executed: Counter[Statement]) -> list[str]:
    """Where the journal and PostgreSQL's log do not agree."""
    return [
        *[f"not on record: {one}" for one in executed - recorded],
        *[f"on record, but not run: {one}" for one in recorded - executed],
    ]


def unrecorded(records: list[AnyRecord]) -> list[str]:
    """What must be on record and is not: values, errors, copies, the cancel request, the number of rows."""
    started = {(one.session, one.statement): one for one in records if isinstance(one, StatementStart)}
    ends = [one for one in records if isinstance(one, StatementEnd)]
    bound = [tuple(map(shown, one.parameters)) for one in started.values() if one.parameters and "concat" in one.sql]
    copies = [one.direction for one in records if isinstance(one, Copy) and not one.failed]
    cancels = [one for one in records if isinstance(one, Cancel)]
    cancelled = [started[one.session, one.statement or 0].sql for one in cancels if one.forwarded]
    seen = {
        "values": all(values == BOUND for values in bound),
        "errors": sorted(one.sqlstate for one in ends if one.sqlstate) == ["23505", "57014"],
        "copies": copies == ["in", "out"],
        "cancel": len(cancels) == 1 and [sql.rstrip(";") for sql in cancelled] == ["SELECT pg_sleep(60)"],
        "rows": BIG_ROWS in [one.rows for one in ends],
    }
    return [f"not as it was: {what}" for what, right in seen.items() if not right]
