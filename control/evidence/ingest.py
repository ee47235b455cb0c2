"""Taking in what a proxy ships: whole batches, each in one transaction.

What is good is stored byte for byte, what is wrong is stored as a fault, and the answer says both. A fault in one
session does not keep the other sessions' evidence out.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from control.domain.sessions import Session, State
from control.evidence.chain import Flaw, Kind, Ledger, Line, by_session, parse
from control.store import places, proxies, records, sessions
from control.store.engine import Store, Transaction
from control.store.proxies import Proxy
from proxy.contract.proof import public_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What became of a batch."""

    stored: int
    known: int
    flaws: Sequence[Flaw]
    ended: Sequence[Session]
    """The sessions whose end was in it."""


async def ingest(store: Store, *, proxy: Proxy, body: bytes, now: int) -> Taken:
    """Take in a body of records from `proxy`, which has proved that it is the one."""
    # In a thread: a body of some thousand records must not hold up the directives.
    lines, malformed = await asyncio.to_thread(parse, body)
    async with store.write() as tx:
        await proxies.seen(tx, proxy.name, now)
        ledgers = await _ledgers(tx, proxy, lines)
        await _keep(tx, ledgers)
        flaws = [ledger.flaw for _, ledger in ledgers if ledger.flaw is not None]
        if malformed is not None:
            flaws.append(malformed)
        for flaw in flaws:
            await _keep_fault(tx, proxy.name, flaw, now)
    return Taken(
        stored=sum(len(ledger.new) for _, ledger in ledgers),
        known=sum(ledger.known for _, ledger in ledgers),
        flaws=flaws,
        # Nothing is new behind an end: where something is, and the session has ended, it was the end.
        ended=[one.session for _, one in ledgers if one.new and one.session and one.session.state is State.ENDED],
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
        await asyncio.sleep(0)  # a batch is at most 4 MiB, but its sessions are many
        for line in own:
            ledger.take(line)
        judged.append((number, ledger))
    return judged


async def _keep(tx: Transaction, ledgers: Sequence[tuple[int | None, Ledger]]) -> None:
    """Store what is new: the sessions first, because the records point to them."""
    rows: list[tuple[int, int, bytes]] = []
    changed = []
    for known, ledger in ledgers:
        if not ledger.new or ledger.session is None:
            continue
        if known is None:
            number = await sessions.add(tx, ledger.session)
        else:
            number = known
            changed.append((number, ledger.session))
        rows += [(number, seq, line) for seq, line in ledger.new]
    await records.add(tx, rows)
    await sessions.change(tx, changed)
    over = [one.session for _, one in ledgers if one.new and one.session is not None]
    await places.give_back(tx, [one.id for one in over if one.state is not State.OPEN])


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
