"""Sessions' summaries: what is known of a session as a whole, kept up to date record by record."""

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, assert_never

from control.domain.commands import command
from proxy.contract.record import (
    GENESIS,
    AnyRecord,
    Authorization,
    AuthRefused,
    Cancel,
    Copy,
    CopyData,
    GrantExtended,
    Notice,
    SessionEnd,
    SessionReaped,
    SessionStart,
    StatementEnd,
    StatementPrepare,
    StatementStart,
)

REFUSED = "refused"
REAPED = "reaped"
LARGEST = 2**63 - 1
"""What a counter stops at: every number of a record fits, but a hostile proxy's sum of them might not."""


class State(enum.StrEnum):
    """Where a session stands. `refused` is a connection that was not admitted: one record, and never a session."""

    OPEN = "open"
    ENDED = "ended"
    REFUSED = "refused"
    REAPED = "reaped"
    """No session either: the one record of a proxy that has ended what another one left (`Session.reaped_in`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session's summary. `records` and `head` are where its chain goes on."""

    id: str
    proxy: str
    person: str | None = None
    grant: str | None = None
    target: str | None = None
    database: str
    profile: str | None = None
    address: str | None = None
    application_name: str | None = None
    state: State = State.OPEN
    started_at: int
    expires_at: int | None = None
    """When its grant ends, as the proxy knows: an extension moves it once the proxy has said so."""
    ended_at: int | None = None
    end_reason: str | None = None
    ended_by: str | None = None
    outcome: str | None = None
    decided_at: int | None = None
    """When its end was decided: by control's clock where somebody decided (revoked, killed, locked)."""
    gone_at: int | None = None
    """When its backend was seen to be gone, by the proxy's clock; None where nobody could look."""
    running: int | None = None
    """The number of the statement that runs: the newest that has begun, where it has no end yet."""
    running_since: int | None = None
    running_command: str | None = None
    statements: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    stop_ns: int | None = None
    """From the decision to end the session to its backend being gone.

    Where control decided, it is taken from two clocks: what they differ is in it, and less than nothing becomes 0.
    """
    records: int = 0
    head: str = GENESIS
    faults: int = 0
    reaped_by: str | None = None
    """The proxy that has ended its backend, where its own was gone."""
    reaped_in: str | None = None
    """Where that is on record: the id of that record's own chain."""

    @property
    def complete(self) -> bool:
        """Whether its chain has its last record. A proxy that comes back may still carry on what others have ended."""
        return (self.state is not State.OPEN and self.end_reason != REAPED) or self.state is State.REAPED


def begin(record: SessionStart | AuthRefused | SessionReaped, proxy: str) -> Session:
    """The summary that a session's first record makes. It does not count that record yet (see `advance`).

    A refused connection has no `person`: its user name is only what it said.
    """
    if isinstance(record, SessionStart):
        return Session(
            id=record.session,
            proxy=proxy,
            person=record.person,
            grant=record.grant,
            target=record.target,
            database=record.database,
            profile=record.profile,
            address=record.address,
            application_name=record.application_name,
            started_at=record.at,
            expires_at=record.expires_at,
        )
    if isinstance(record, SessionReaped):
        return Session(id=record.session, proxy=proxy, target=record.target, database="", started_at=record.at)
    return Session(
        id=record.session,
        proxy=proxy,
        grant=record.grant,
        database=record.database,
        address=record.address,
        started_at=record.at,
    )


def advance(session: Session, records: Iterable[AnyRecord], head: str) -> Session:
    """The summary with these records taken in, one after the other; `head` is the hash of the last one's line.

    Nearly all records are of statements, and come by the thousand: what they change is gathered, and put in once.
    """
    tally = _Tally(session)
    for record in records:
        tally.records += 1
        match record:
            case StatementStart():
                tally.statements += 1
                tally.running = record
            case StatementEnd():
                if record.statement == tally.number:
                    tally.running = None
                tally.bytes_in += record.bytes_in
                tally.bytes_out += record.bytes_out
            case _:
                session = _advance(tally.put_into(session), record)
                tally = _Tally(session)
    return replace(tally.put_into(session), head=head)


class _Tally:
    """What some statements change in a session."""

    __slots__ = ("_before", "bytes_in", "bytes_out", "records", "running", "statements")

    def __init__(self, session: Session) -> None:
        self._before = session.running
        self.running: StatementStart | Literal["before"] | None = "before"
        """The statement that runs, `before` for the one that did so already, if any."""
        self.records = self.statements = self.bytes_in = self.bytes_out = 0

    @property
    def number(self) -> int | None:
        """The number of the statement that runs."""
        if self.running == "before":
            return self._before
        return None if self.running is None else self.running.statement

    def put_into(self, session: Session) -> Session:
        """The session with it."""
        if self.running is None:
            session = _at_rest(session)
        elif self.running != "before":
            start = self.running
            session = replace(
                session, running=start.statement, running_since=start.at, running_command=command(start.sql)
            )
        return replace(
            session,
            records=session.records + self.records,
            statements=session.statements + self.statements,
            bytes_in=min(session.bytes_in + self.bytes_in, LARGEST),
            bytes_out=min(session.bytes_out + self.bytes_out, LARGEST),
        )


_Rare: TypeAlias = (
    GrantExtended
    | SessionEnd
    | AuthRefused
    | SessionReaped
    | SessionStart
    | StatementPrepare
    | Copy
    | CopyData
    | Cancel
    | Notice
    | Authorization
)


def _advance(session: Session, record: _Rare) -> Session:
    match record:
        case GrantExtended():
            return replace(session, expires_at=record.expires_at)
        case SessionEnd() | AuthRefused() | SessionReaped():
            return _last(session, record)
        case SessionStart() | StatementPrepare() | Copy() | CopyData() | Cancel() | Notice() | Authorization():
            return session
        case _:
            assert_never(record)


def _at_rest(session: Session) -> Session:
    return replace(session, running=None, running_since=None, running_command=None)


def _last(session: Session, record: SessionEnd | AuthRefused | SessionReaped) -> Session:
    match record:
        case SessionEnd():
            return _ended(session, record)
        case AuthRefused():
            return replace(session, state=State.REFUSED, ended_at=record.at, end_reason=REFUSED)
        case SessionReaped():
            return replace(
                session,
                state=State.REAPED,
                ended_at=record.at,
                end_reason=REAPED,
                ended_by=record.by,
                decided_at=record.decided_at,
                gone_at=record.gone_at,
            )


def reap(session: Session, record: SessionReaped, *, by: str) -> Session:
    """The summary of a session whose backend the proxy `by` has ended. Where nobody saw that it is gone, nothing is."""
    if session.state is not State.OPEN or record.gone_at is None:
        return session
    return replace(
        _at_rest(session),
        state=State.ENDED,
        ended_at=record.gone_at,
        end_reason=REAPED,
        ended_by=record.by,
        decided_at=record.decided_at,
        gone_at=record.gone_at,
        outcome="unknown",
        stop_ns=max(0, record.gone_at - record.decided_at),
        reaped_by=by,
        reaped_in=record.session,
    )


def _ended(session: Session, record: SessionEnd) -> Session:
    if session.reaped_in is not None:
        # Its own proxy came back, and looked for a backend that was gone: when it went, the other one has seen.
        return replace(_at_rest(session), end_reason=record.reason, outcome=record.outcome)
    return replace(
        _at_rest(session),
        state=State.ENDED,
        ended_at=record.at,
        end_reason=record.reason,
        ended_by=record.by,
        decided_at=record.decided_at,
        gone_at=record.gone_at,
        outcome=record.outcome,
        statements=record.statements,
        bytes_in=record.bytes_in,
        bytes_out=record.bytes_out,
        stop_ns=stop_ns(record),
    )


def stop_ns(record: SessionEnd) -> int | None:
    """How long the stop took. What a statement was given to finish is none of it, nor has an end by itself a stop."""
    finish = record.finish
    if record.gone_at is None or (finish is not None and finish.ended == "done"):
        return None
    begun = finish.until if finish is not None and finish.ended == "timeout" else record.decided_at
    return max(0, record.gone_at - begun)
