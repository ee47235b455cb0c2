"""Queries: records, byte for byte, and the faults found in what proxies sent."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import chain

import sqlalchemy as sa

from control.store.engine import Transaction
from control.store.tables import faults, records

_COLUMNS = ["session", "seq", "line", "leaf"]
IN_ONE_QUERY = 500
"""SQLite binds 32,766 values in one statement; PostgreSQL likes fewer."""
IN_ONE_INSERT = 100
"""The driver gives Python's lock away for each execution, and has to get it back from whoever took it meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A line that is not what it should be, kept as it came."""

    at: int
    proxy: str
    session: str
    seq: str
    """As text: a hostile number may have any size."""
    kind: str
    detail: str
    digest: str
    line: bytes


async def add(tx: Transaction, lines: Sequence[tuple[int, int, bytes]], leaf: int) -> None:
    """New records: session's number, seq, line. The first one becomes leaf `leaf` of the log."""
    rows = [(session, seq, line, place) for place, (session, seq, line) in enumerate(lines, start=leaf)]
    # By the driver's own text: SQLAlchemy takes longer over the values of a row than SQLite over storing it.
    one, many = _inserts(tx.connection.dialect)
    whole = len(rows) - len(rows) % IN_ONE_INSERT
    if whole:
        groups = [tuple(chain(*rows[at : at + IN_ONE_INSERT])) for at in range(0, whole, IN_ONE_INSERT)]
        await tx.connection.exec_driver_sql(many, groups)
    if rest := rows[whole:]:
        await tx.connection.exec_driver_sql(one, rest)


@lru_cache(2)
def _inserts(dialect: sa.Dialect) -> tuple[str, str]:
    """What inserts one row, and what inserts IN_ONE_INSERT of them."""
    one = str(sa.insert(records).compile(dialect=dialect, column_keys=_COLUMNS))
    return one, one + f", {one[one.rindex('(') :]}" * (IN_ONE_INSERT - 1)


async def at(tx: Transaction, session: int, seqs: Sequence[int]) -> Mapping[int, bytes]:
    """A session's lines with these numbers, by number."""
    found: dict[int, bytes] = {}
    for start in range(0, len(seqs), IN_ONE_QUERY):
        wanted = (records.c.session == session) & records.c.seq.in_(seqs[start : start + IN_ONE_QUERY])
        for row in await tx.connection.execute(sa.select(records.c.seq, records.c.line).where(wanted)):
            found[row.seq] = row.line
    return found


async def after(tx: Transaction, session: int, seq: int, *, lines: int, size: int) -> Sequence[tuple[int, bytes]]:
    """A session's lines behind `seq`, in order: at most `lines` of them, and `size` bytes or else a single one."""
    wanted = (records.c.session == session) & (records.c.seq > seq)
    lengths = (
        sa.select(records.c.seq, sa.func.length(records.c.line)).where(wanted).order_by(records.c.seq).limit(lines)
    )
    chosen: list[int] = []
    total = 0
    for number, length in await tx.connection.execute(lengths):
        total += length
        if total > size and chosen:
            break
        chosen.append(number)
    return sorted((await at(tx, session, chosen)).items())


async def firsts(tx: Transaction, sessions: Sequence[int]) -> Mapping[int, bytes]:
    """The first lines of these sessions, by the sessions' numbers."""
    found: dict[int, bytes] = {}
    for start in range(0, len(sessions), IN_ONE_QUERY):
        wanted = records.c.session.in_(sessions[start : start + IN_ONE_QUERY]) & (records.c.seq == 0)
        for row in await tx.connection.execute(sa.select(records.c.session, records.c.line).where(wanted)):
            found[row.session] = row.line
    return found


async def add_fault(tx: Transaction, fault: Fault) -> bool:
    """Keep a fault. Whether it is new: the same line sent again is the same fault."""
    same = (faults.c.session == fault.session) & (faults.c.kind == fault.kind) & (faults.c.digest == fault.digest)
    known = sa.select(faults.c.number).where(same, faults.c.proxy == fault.proxy)
    if (await tx.connection.execute(known)).first() is not None:
        return False
    await tx.connection.execute(sa.insert(faults).values(asdict(fault)))
    return True


async def faults_page(tx: Transaction, *, after: int | None, limit: int) -> tuple[Sequence[Fault], int | None]:
    """Faults, newest first, and where the next page starts."""
    query = sa.select(faults).order_by(faults.c.number.desc()).limit(limit + 1)
    if after is not None:
        query = query.where(faults.c.number < after)
    rows = (await tx.connection.execute(query)).all()
    names = Fault.__slots__
    found = [Fault(**{name: getattr(row, name) for name in names}) for row in rows[:limit]]
    return found, rows[limit - 1].number if len(rows) > limit else None
