"""The words that the timeline has for each record, for whoever does not know its kind. Pure."""

from control.times import rfc3339
from proxy.contract.record import (
    AnyRecord,
    Authorization,
    AuthRefused,
    Cancel,
    Copy,
    CopyData,
    GrantExtended,
    JournalTorn,
    Notice,
    SessionEnd,
    SessionReaped,
    SessionStart,
    StatementPrepare,
    StatementStart,
)

FUNCTIONS = {
    715: "lo_create", 764: "lo_import", 765: "lo_export", 767: "lo_import", 952: "lo_open", 953: "lo_close",
    954: "loread", 955: "lowrite", 956: "lo_lseek", 957: "lo_creat", 958: "lo_tell", 964: "lo_unlink",
    1004: "lo_truncate", 2078: "set_config", 3170: "lo_lseek64", 3171: "lo_tell64", 3172: "lo_truncate64",
    3457: "lo_from_bytea", 3458: "lo_get", 3459: "lo_get", 3460: "lo_put",
}  # fmt: skip
"""What clients call by number: these mean the same in every database (pg_proc.dat)."""


def describe(record: AnyRecord, why: str | None = None) -> str:  # noqa: C901, PLR0912 a case for each record
    """The record in one line, but for the lines of a statement's own text. `why`: for what reason somebody ended it."""
    text = ""
    match record:
        case SessionStart():
            place = f"{record.target}/{record.database}" if record.database else record.target
            purpose = "" if record.replication is None else f" for {record.replication} replication"
            text = f"{record.person} connected to {place} as {record.profile}{purpose}"
        case StatementPrepare():
            text = f"'{record.name or ''}'" if record.portal is None else f"portal '{record.portal}'"
            text += f": {record.sql}"
        case StatementStart():
            text = record.sql if record.function is None else _called(record.function)
        case Copy():
            sent = "" if record.bytes_in is None else f" ({record.bytes_in} from the client)"
            text = f"COPY {record.direction}, {record.bytes} bytes{sent}" + (", failed" if record.failed else "")
        case CopyData():
            text = f"COPY {record.direction}, a piece of its data"
        case Cancel():
            text = "cancel" if record.forwarded else "cancel, but nothing was running"
        case Notice():
            text = f"{record.severity} {record.sqlstate}: {record.message}"
        case Authorization():
            text = f"{record.parameter} is now '{record.value}'"
        case GrantExtended():
            by = "" if record.by is None else f", extended by {record.by}"
            text = f"the grant now ends at {rfc3339(record.expires_at)}{by}"
        case AuthRefused():
            text = f"a connection as {record.user} to {record.database} was refused: {record.refusal}"
        case SessionReaped():
            text = _reaped(record)
        case JournalTorn():
            text = f"a crash had torn the proxy's journal: {record.bytes} bytes of an unfinished line were cut off"
        case SessionEnd():
            by = "" if record.by is None else f" by {record.by}"
            because = "" if why is None else f": '{why}'"
            text = f"the session ended: {record.reason}{by}{because}; {record.outcome}{_let_finish(record)}"
    return text


def _called(function: int) -> str:
    name = FUNCTIONS.get(function)
    return f"a call of function {function}" + (f", {name}" if name else "")


def _let_finish(record: SessionEnd) -> str:
    """What became of the statement that was let finish behind the decision, where one was."""
    if record.finish is None:
        return ""
    words = {"done": "came to its end", "timeout": "was cut when its time was up", "cut": "was cut before its time"}
    return f"; what ran was let finish and {words[record.finish.ended]}"


def _reaped(record: SessionReaped) -> str:
    what = "ended" if record.found else "looked for"
    text = f"{what} the backend of session {record.reaped}, which {record.left_by} left"
    if record.transaction is None:
        return text
    fate = "had written nothing" if record.transaction == "none" else f"was {record.transaction}"
    return f"{text}; the transaction that it was in {fate}"
