"""Sessions' summaries: what is known of a session as a whole, kept up to date record by record."""

import enum
from dataclasses import dataclass, replace
from typing import assert_never

from control.domain.commands import command
from proxy.contract.record import (
    GENESIS,
    AnyRecord,
    Authorization,
    AuthRefused,
    Cancel,
    Copy,
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
LARGEST = 2**63 - 1
"""What a counter stops at: every number of a record fits, but a hostile proxy's sum of them might not."""


class State(enum.StrEnum):
    """Where a session stands. `refused` is a connection that was not admitted: one record, and never a session."""

    OPEN = "open"
    ENDED = "ended"
    REFUSED = "refused"


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


def begin(record: SessionStart | AuthRefused, proxy: str) -> Session:
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
    return Session(
        id=record.session,
        proxy=proxy,
        grant=record.grant,
        database=record.database,
        address=record.address,
        started_at=record.at,
    )


def advance(session: Session, record: AnyRecord, head: str) -> Session:
    """The summary with `record`, whose line's hash is `head`, taken in."""
    session = replace(session, records=session.records + 1, head=head)
    match record:
        case StatementStart():
            return replace(
                session,
                statements=session.statements + 1,
                running=record.statement,
                running_since=record.at,
                running_command=command(record.sql),
            )
        case StatementEnd():
            return replace(
                _at_rest(session) if record.statement == session.running else session,
                bytes_in=min(session.bytes_in + record.bytes_in, LARGEST),
                bytes_out=min(session.bytes_out + record.bytes_out, LARGEST),
            )
        case GrantExtended():
            return replace(session, expires_at=record.expires_at)
        case SessionEnd():
            return _ended(session, record)
        case AuthRefused():
            return replace(session, state=State.REFUSED, ended_at=record.at, end_reason=REFUSED)
        case SessionStart() | StatementPrepare() | Copy() | Cancel() | Notice() | Authorization() | SessionReaped():
            return session
        case _:
            assert_never(record)


def _at_rest(session: Session) -> Session:
    return replace(session, running=None, running_since=None, running_command=None)


def _ended(session: Session, record: SessionEnd) -> Session:
    gone = record.gone_at
    return replace(
        _at_rest(session),
        state=State.ENDED,
        ended_at=record.at,
        end_reason=record.reason,
        ended_by=record.by,
        decided_at=record.decided_at,
        gone_at=gone,
        outcome=record.outcome,
        statements=record.statements,
        bytes_in=record.bytes_in,
        bytes_out=record.bytes_out,
        stop_ns=None if gone is None else max(0, gone - record.decided_at),
    )
