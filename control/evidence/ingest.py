"""Taking in what a proxy ships: whole batches, each in one transaction.

What is good is stored byte for byte, what is wrong is stored as a fault, and the answer says both. A fault in one
session does not keep the other sessions' evidence out.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from control.domain.sessions import Session, State, reap
from control.evidence.chain import Flaw, Kind, Ledger, Line, Parsed, by_session
from control.evidence.journals import follow, journals_of
from control.store import journals, places, proxies, reapings, records, sessions, tree
from control.store.engine import Store, Transaction
from control.store.proxies import Proxy
from proxy.contract.proof import public_key
from proxy.contract.record import SessionReaped, SessionStart, decode

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What became of a batch."""

    stored: int
    known: int
    flaws: Sequence[Flaw]
    ended: Sequence[Session]
    """The sessions whose end was in it."""


async def ingest(store: Store, *, proxy: Proxy, parsed: Parsed, now: int) -> Taken:
    """Take in what `parse` has made of a body from `proxy`, which has proved that it is the one."""
    # In a thread: a batch of some thousand records must not hold up the directives.
    return await store.write_as_one(partial(_take, proxy=proxy, parsed=parsed, now=now))


async def _take(tx: Transaction, *, proxy: Proxy, parsed: Parsed, now: int) -> Taken:
    lines, malformed = parsed
    await proxies.seen(tx, proxy.name, now)
    ledgers = await _ledgers(tx, proxy, lines)
    await _keep(tx, ledgers)
    reaped = [await _reap(tx, ledger.reaped, by=proxy.name) for _, ledger in ledgers if ledger.reaped is not None]
    flaws = [ledger.flaw for _, ledger in ledgers if ledger.flaw is not None]
    flaws += await _missing(tx, proxy.name, [line for _, ledger in ledgers for line in ledger.ends])
    if malformed is not None:
        flaws.append(malformed)
    for flaw in flaws:
        await _keep_fault(tx, proxy.name, flaw, now)
    return Taken(
        stored=sum(len(ledger.new) for _, ledger in ledgers),
        known=sum(ledger.known for _, ledger in ledgers),
        flaws=flaws,
        # Nothing is new behind an end: where something is, and the session has ended, it was the end; but for those
        # that others have ended, which were told of then.
        ended=[
            *(one.session for _, one in ledgers if one.new and one.session and _ended_by_itself(one.session)),
            *(session for session in reaped if session is not None),
        ],
    )


async def _ledgers(tx: Transaction, proxy: Proxy, lines: Sequence[Line]) -> Sequence[tuple[int | None, Ledger]]:
    """Every session of the batch, judged, with its number where it was known before."""
    keys = [public_key(text) for text in proxy.keys]
    batch = by_session(lines)
    known = await sessions.find_all(tx, batch)
    judged: list[tuple[int | None, Ledger]] = []
    for session_id, own in batch.items():
        number, session = known.get(session_id, (None, None))
        stored: Mapping[int, bytes] = {}
        if number is not None and session is not None:
            again = [line.record.seq for line in own if line.record.seq < session.records]
            stored = await records.at(tx, number, again)
        ledger = Ledger(proxy=proxy.name, keys=keys, session=session, stored=stored)
        if session is not None and session.proxy != proxy.name:
            first = own[0]
            ledger.flaw = Flaw(Kind.FOREIGN, "another proxy's session", session_id, str(first.record.seq), first.raw)
        ledger.take_all(own)
        judged.append((number, ledger))
    return judged


async def _keep(tx: Transaction, ledgers: Sequence[tuple[int | None, Ledger]]) -> None:
    """Store what is new: the sessions first, because the records point to them; and the log grows by it."""
    rows: list[tuple[int, int, bytes]] = []
    leaves: list[bytes] = []
    changed = []
    for known, ledger in ledgers:
        if not ledger.new or ledger.session is None:
            continue
        if known is None:
            number = await sessions.add(tx, ledger.session)
        else:
            number = known
            changed.append((number, ledger.session))
        rows += [(number, line.record.seq, line.raw) for line in ledger.new]
        leaves += [line.leaf for line in ledger.new]
        tx.touch(sessions.growth(ledger.session.id))
    await sessions.change(tx, changed)
    over = [one.session for _, one in ledgers if one.new and one.session is not None]
    await places.give_back(tx, [one.id for one in over if one.state is not State.OPEN])
    if rows:
        size = await tree.size(tx)
        await records.add(tx, rows, size)
        await tree.grow(tx, size, leaves)
        tx.touch(tree.GROWN)


async def _missing(tx: Transaction, proxy: str, ends: Sequence[Line]) -> Sequence[Flaw]:
    """What should have arrived before these, and has not. They are evidence all the same, and stored."""
    if not (named := journals_of(ends)):
        return ()
    known = await journals.find(tx, proxy, named)
    followed = follow(known, ends)
    await journals.save(tx, proxy, {one: entry for one, entry in followed.next.items() if known.get(one) != entry})
    return followed.flaws


def _ended_by_itself(session: Session) -> bool:
    return session.state is State.ENDED and session.reaped_in is None


async def _reap(tx: Transaction, record: SessionReaped, *, by: str) -> Session | None:
    """Take it that the proxy `by` has ended another's session; None where that changes nothing.

    Its word counts for what control has asked for, and for that very backend.
    """
    found = await sessions.find(tx, record.reaped)
    if found is None or not await reapings.ordered(tx, record.reaped):
        log.warning("a reaping that nobody has asked for", session=record.reaped, proxy=by)
        return None
    number, session = found
    start = decode((await records.firsts(tx, [number]))[number])
    assert isinstance(start, SessionStart)
    if (start.backend_pid, start.backend_start) != (record.backend_pid, record.backend_start):
        log.warning("a reaping of another backend than the session's", session=record.reaped, proxy=by)
        return None
    after = reap(session, record, by=by)
    if after is session:
        return None
    await sessions.change(tx, [(number, after)])
    await places.give_back(tx, [session.id])
    return after


async def _keep_fault(tx: Transaction, proxy: str, flaw: Flaw, now: int) -> None:
    fault = records.Fault(
        at=now,
        proxy=proxy,
        session=flaw.session,
        seq=flaw.seq,
        kind=flaw.kind,
        detail=flaw.detail,
        digest=hashlib.sha256(flaw.raw).hexdigest(),
        line=flaw.raw,
    )
    if await records.add_fault(tx, fault):
        await sessions.count_fault(tx, flaw.session, proxy)
