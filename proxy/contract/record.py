"""Records: the entries of the journal, and how they are read (DESIGN.md 4.4).

A record is one JSON object on one line, encoded by msgspec with the fields in the order given here. Each carries the
SHA-256 of the session's previous line, and a session's last one is signed by the proxy: `proxy.contract.chain` does
that, `proxy.contract.verification` checks it. This module never writes a file (see `proxy.journal`) and never judges
what a statement did (see `control.evidence`).

Times are nanoseconds since the epoch; fields whose value is their default are left out of the line.
"""

from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

from proxy.contract.chain import GENESIS, RECORD_VERSION, Chain, line_hash
from proxy.contract.settings import Identity

__all__ = [
    "GENESIS",
    "AnyRecord",
    "AuthRefused",
    "Authorization",
    "Cancel",
    "Chain",
    "Copy",
    "CopyData",
    "EndReason",
    "Entry",
    "Finish",
    "GrantExtended",
    "JournalTorn",
    "Notice",
    "Outcome",
    "Parameter",
    "Ran",
    "Record",
    "RecordError",
    "SessionEnd",
    "SessionReaped",
    "SessionStart",
    "StatementEnd",
    "StatementPrepare",
    "StatementStart",
    "Tls",
    "TransactionState",
    "decode",
    "decode_all",
    "line_hash",
]

TransactionState: TypeAlias = Literal["I", "T", "E"]
"""ReadyForQuery's own letters: idle, in a transaction, in a failed transaction."""

Outcome: TypeAlias = Literal["rolled back", "nothing open", "committed before", "partly committed", "unknown"]
"""What became of the work that was open when a session was ended."""

EndReason: TypeAlias = Literal[
    "closed",  # the client said Terminate, or closed the socket while nothing ran
    "client_lost",  # the client's socket broke or closed while something ran
    "expired",
    "revoked",
    "withdrawn",  # the key that signed the grant is in force no more
    "killed",
    "locked",
    "idle",
    "lease_lost",
    "drained",
    "journal",
    "protocol",  # the client broke the protocol
    "upstream",  # PostgreSQL ended the session or could not be reached
    "internal",  # a fault of the proxy's own
    "crashed",  # found open when the proxy started again
]


class Record(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="type"):
    """What every record has. `Chain.seal` fills these in."""

    v: int | None = None
    session: str = ""
    seq: int = -1
    """Counts from 0 within the session, without gaps."""
    at: int = 0
    prev: str | None = None


class Parameter(msgspec.Struct, frozen=True, omit_defaults=True):
    """One bound value: `value` (None is SQL NULL) or, where its type is not one we decode, `base64`.

    Where the access profile says that values are not recorded, it is `withheld`.
    """

    type: int
    """The type's OID, 0 where the client left it to the server."""
    value: str | int | float | bool | None = None
    base64: str | None = None
    withheld: bool = False
    binary: bool = False
    """What `base64` has is the type's binary format; else it is text in an encoding that is not UTF-8."""
    masked: bool = False
    """It is a secret, or has one in it: that is `***` in `value`."""


class Tls(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The client leg's encryption."""

    version: str
    cipher: str
    certificate: str | None = None
    """The SHA-256 thumbprint of the client's certificate, base64url, where it showed one."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """The place of a session in its journal: the first records of a journal's sessions are a chain of their own.

    So a session that is missing as a whole shows, too: its successor's `number` and `prev` do not fit.
    """

    journal: str
    """The journal's id: a proxy has one for each worker, and a new one where its folder was lost."""
    number: int
    """Counts the journal's sessions from 0."""
    prev: str
    """The hash of the first record of the session before it (see `chain.line_hash`); empty for number 0."""


class SessionStart(Record, kw_only=True, tag="session.start"):
    """A connection was admitted on a grant and its backend is ready."""

    entry: Entry | None = None
    grant: str
    person: str
    reason: str | None = None
    approved_by: str | None = None
    expires_at: int
    target: str
    database: str
    """Empty for physical replication, which is in no database."""
    profile: str
    upstream_user: str
    """Who is logged in at PostgreSQL."""
    identity: Identity = "vaulted"
    """What kind of login that is: stored, made for this grant, or the person's own."""
    account: str | None = None
    """The role made for this grant that gives the person's own login its rights, where it is `elevated`."""
    backend_pid: int
    backend_start: str
    """`backend_start` of pg_stat_activity, ISO 8601 with microseconds: with the pid, the backend's identity."""
    server: str | None = None
    """HOST:PORT of the server that the backend is on, where the target has several."""
    address: str | None = None
    """The client's, None on a unix socket."""
    via: str | None = None
    """The load balancer that said so (PROXY protocol)."""
    uid: int | None = None
    """On a unix socket: the system user who connected, as the kernel says."""
    tls: Tls | None = None
    application_name: str | None = None
    settings: dict[str, str] | None = None
    """What the client's startup message asked for besides (`client_encoding`, `DateStyle`, `options`): what a statement
    means can depend on it."""
    proxy: str
    replication: Literal["physical", "logical"] | None = None
    """The kind of replication connection, where it is one. Its commands are recorded as statements."""


class StatementStart(Record, kw_only=True, tag="statement.start"):
    """A statement is about to be forwarded."""

    statement: int
    """Counts from 1 within the session."""
    kind: Literal["query", "execute", "function"]
    sql: str
    sql_base64: str | None = None
    """The exact bytes, where they are not UTF-8 (`sql` then has escapes)."""
    masked: bool = False
    """A secret in `sql` was replaced by `***`."""
    parameters: list[Parameter] | None = None
    """The bound values; for kind `function`, its arguments."""
    name: str | None = None
    """The prepared statement's name, where it has one."""
    function: int | None = None
    """The function's OID, for kind `function`."""
    continued: bool = False
    """It goes on with a portal that an Execute before it has begun: what it gives are that one's further rows."""
    pipelined: bool = False
    """No Sync stands between it and the statement before it: of what shares a round, an error skips the rest."""
    state: TransactionState
    transaction: int
    """Counts the session's transactions from 1; statements that share one share the number."""


class StatementPrepare(Record, kw_only=True, tag="statement.prepare"):
    """A Parse under a name, or a Bind that no Execute follows at once, is about to be forwarded.

    It is no statement yet, but from here on the text can run without an Execute that would show it: SQL reaches it by
    its name (EXECUTE, FETCH), and planning a Bind evaluates functions. The unnamed statement is recorded so before
    something replaces it that no record has shown: if that is skipped, the next Bind is of the old text.
    """

    sql: str
    sql_base64: str | None = None
    masked: bool = False
    name: str | None = None
    """The prepared statement's name, where it has one."""
    portal: str | None = None
    """The portal's name, empty for the unnamed one; None for a Parse."""
    parameters: list[Parameter] | None = None


class Ran(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What an Execute ran, in the words of its `statement.start`."""

    sql: str
    sql_base64: str | None = None
    masked: bool = False
    name: str | None = None
    parameters: list[Parameter] | None = None


class StatementEnd(Record, kw_only=True, tag="statement.end"):
    """A statement's results have all come (written at the ReadyForQuery that closes its round)."""

    statement: int
    tags: list[str] = []
    rows: int = 0
    duration: int
    """Nanoseconds from forwarding to its completion."""
    bytes_in: int = 0
    bytes_out: int = 0
    result_bytes: int | None = None
    """How long a function call's result is, as it came; None where that is NULL."""
    sqlstate: str | None = None
    message: str | None = None
    skipped: bool = False
    """PostgreSQL never ran it: an earlier statement of the pipeline failed."""
    suspended: bool = False
    """The portal has more rows (PortalSuspended)."""
    state: TransactionState | None = None
    """After it; None where the session ended first."""
    ran: Ran | None = None
    """Where it is not what the start says.

    An Execute that is sent before earlier requests are answered is recorded as it will be if PostgreSQL takes those.
    Where it refuses one, the names in it mean what they meant before.
    """


class Copy(Record, kw_only=True, tag="copy"):
    """A COPY's data is through."""

    statement: int
    direction: Literal["in", "out", "both"]
    bytes: int
    """In the direction; of `both`, in both together."""
    bytes_in: int | None = None
    """Of `both`: what the client sent."""
    failed: bool = False


class CopyData(Record, kw_only=True, tag="copy.data"):
    """A piece of a COPY's data, where the access profile asks for it: on record before its bytes go on.

    The pieces of a statement, in order, are its CopyData messages' contents end to end, whatever messages they came in.
    """

    statement: int
    direction: Literal["in", "out"]
    base64: str
    """At most 48 KiB of data in one record."""


class Cancel(Record, kw_only=True, tag="cancel"):
    """A CancelRequest with this session's key was forwarded, or not (`forwarded`) because nothing ran."""

    address: str | None = None
    forwarded: bool
    statement: int | None = None


class Notice(Record, kw_only=True, tag="notice"):
    """What the proxy itself told the client."""

    severity: str
    sqlstate: str
    message: str


class Authorization(Record, kw_only=True, tag="authorization"):
    """PostgreSQL has reported that the session acts with other rights from here on, whatever statement brought that."""

    parameter: str
    """`session_authorization` or `is_superuser`."""
    value: str


class GrantExtended(Record, kw_only=True, tag="grant.extended"):
    """The grant's end has moved, while the session ran or before it began on an older token."""

    grant: str
    expires_at: int
    """The new end."""
    by: str | None = None
    """Who decided it."""


class AuthRefused(Record, kw_only=True, tag="auth.refused"):
    """A connection was not admitted. The only record of its session."""

    refusal: str
    user: str
    database: str
    address: str | None = None
    grant: str | None = None
    """Set only where the token's signature was good."""
    entry: Entry | None = None
    signature: str = ""
    """As in `SessionEnd`."""


class Finish(msgspec.Struct, frozen=True, kw_only=True):
    """A statement ran when the end was decided, and was let finish (end mode `finish`); no other one began."""

    decided_at: int
    """When that was; the record's own `decided_at`, but where something else cut it short."""
    until: int
    """How long the statement was given."""
    ended: Literal["done", "timeout", "cut"]
    """It came to its end, its time was up, or the session ended of the record's `reason` before either."""


class SessionEnd(Record, kw_only=True, tag="session.end"):
    """A session's last record. `signature` is over the bytes of its line before it."""

    reason: EndReason
    by: str | None = None
    """Who decided it, for revoked, killed and locked."""
    decided_at: int
    gone_at: int | None = None
    """When the backend was seen to be gone from pg_stat_activity; None where nobody could look."""
    outcome: Outcome
    running: int | None = None
    """The statement that was running at the decision (the first one, of `finish`)."""
    finish: Finish | None = None
    """Where the running statement was let finish."""
    statements: int
    bytes_in: int
    bytes_out: int
    next_entry: Entry | None = None
    """What the journal's next session will have as `entry`: all that began before is signed with this."""
    signature: str = ""


class SessionReaped(Record, kw_only=True, tag="session.reaped"):
    """A backend that a proxy left behind was ended by another one. The only record of its chain, as with `AuthRefused`.

    The session that the backend was of has a chain of its own, which the proxy that is gone began: it has no end until
    that proxy comes back and writes it.
    """

    reaped: str
    """The session that the backend was of."""
    left_by: str
    """The proxy that is gone."""
    target: str
    server: str | None = None
    backend_pid: int
    backend_start: str
    """As in that session's `session.start`, all four."""
    by: str | None = None
    """Who decided it; None where control did by itself."""
    decided_at: int
    gone_at: int | None = None
    """When the backend was seen to be gone; None where nobody could see that, or a pooler has handed it on."""
    found: int
    """How many backends there were to end: 1, or 0 where it was gone already (or handed on) at the first look."""
    transaction: Literal["committed", "aborted", "none"] | None = None
    """What became of the transaction that it was in; None where nothing is known."""
    entry: Entry | None = None
    signature: str = ""
    """As in `SessionEnd`."""


class JournalTorn(Record, kw_only=True, tag="journal.torn"):
    """A crash had left a line unfinished at the journal's end, and the next start has cut it off.

    That write had not returned, so nothing went on because of it. The only record of its chain, as with `AuthRefused`.
    """

    segment: int
    offset: int
    """Where the last whole line ends."""
    bytes: int
    """What was cut off behind it."""
    entry: Entry | None = None
    signature: str = ""
    """As in `SessionEnd`."""


AnyRecord: TypeAlias = (
    SessionStart
    | StatementPrepare
    | StatementStart
    | StatementEnd
    | Copy
    | CopyData
    | Cancel
    | Notice
    | Authorization
    | GrantExtended
    | AuthRefused
    | SessionEnd
    | SessionReaped
    | JournalTorn
)

LAST = (SessionEnd, AuthRefused, SessionReaped, JournalTorn)
"""The types of which a session's last record is: they are signed."""
ALONE = (AuthRefused, SessionReaped, JournalTorn)
"""Those of them that are the only record of their chain."""

_decoder: msgspec.json.Decoder[AnyRecord] = msgspec.json.Decoder(AnyRecord)


class RecordError(Exception):
    """A line that is no record of this version."""


def decode(line: bytes) -> AnyRecord:
    """The record on `line`. Raises RecordError."""
    try:
        record = _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RecordError(f"not a record: {error}") from error
    if record.v != RECORD_VERSION:
        raise RecordError(f"record version {record.v} is not known")
    return record


def decode_all(lines: Iterable[bytes]) -> list[AnyRecord]:
    """The records on all of these lines. Raises RecordError where one is none, and does not say which."""
    try:
        records = list(map(_decoder.decode, lines))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RecordError(f"not all are records: {error}") from error
    if any(record.v != RECORD_VERSION for record in records):
        raise RecordError("not all are of the version that is known")
    return records
