"""A session in which something of every kind happens, its texts hostile to whoever shows them; and its timeline."""

from dataclasses import replace
from typing import Any

from control.domain.sessions import Session, advance, begin
from control.evidence.exports.formats import Exporter
from control.evidence.timeline import Item, Teller
from proxy.contract.record import (
    Authorization,
    Cancel,
    Chain,
    Copy,
    CopyData,
    GrantExtended,
    Notice,
    Parameter,
    Ran,
    Record,
    SessionEnd,
    SessionStart,
    StatementEnd,
    StatementPrepare,
    StatementStart,
    Tls,
    decode,
)

MS = 1_000_000
SECOND = 1_000 * MS
BEGAN = 1_795_348_800 * SECOND
"""2026-11-22T12:00:00Z."""
EVIL = (
    "SELECT '</pre></style><script>alert(1)</script><img src=x onerror=alert(2)>'; -- \"&'\n"
    "\t\x1b]0;owned\x07\x1b[2J\u202e\x9b31m\u2028\r\x00"
)


def start(**changed: Any) -> SessionStart:  # noqa: ANN401 any field
    """The beginning."""
    fields: dict[str, Any] = {
        "grant": "grt_0123456789abcdef",
        "person": "dba1",
        "reason": "INC-1043: <b>why</b>\x1b[1m",
        "approved_by": "carol",
        "expires_at": BEGAN + 3_600 * SECOND,
        "target": "orders",
        "database": "shop",
        "profile": "dba",
        "upstream_user": "owner",
        "backend_pid": 4711,
        "backend_start": "2026-11-22T12:00:00.000001+00:00",
        "server": "[fd00::5]:5432",
        "address": "10.0.0.7",
        "via": "10.0.0.1",
        "tls": Tls(version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384"),
        "application_name": "psql\x1b[1m",
        "proxy": "edge",
    }
    return SessionStart(**fields | changed)


def asked(number: int, sql: str, *values: Parameter, transaction: int | None = None, **changed: Any) -> StatementStart:  # noqa: ANN401 any field
    """A statement begins."""
    fields: dict[str, Any] = {"kind": "query", "state": "I", "parameters": list(values) or None}
    return StatementStart(statement=number, sql=sql, transaction=transaction or number, **fields | changed)


def done(number: int, *tags: str, **changed: Any) -> StatementEnd:  # noqa: ANN401 any field
    """And ends."""
    fields: dict[str, Any] = {"duration": 12 * MS, "bytes_in": 10, "bytes_out": 20, "state": "I"}
    return StatementEnd(statement=number, tags=list(tags), **fields | changed)


def end(**changed: Any) -> SessionEnd:  # noqa: ANN401 any field
    """The end."""
    fields: dict[str, Any] = {
        "reason": "revoked",
        "by": "carol",
        "decided_at": BEGAN + 30 * SECOND,
        "gone_at": BEGAN + 30 * SECOND + 29 * MS,
        "outcome": "rolled back",
        "running": 8,
        "statements": 8,
        "bytes_in": 100,
        "bytes_out": 200,
    }
    return SessionEnd(**fields | changed)


VALUES = (
    Parameter(type=25, value="NULL"),
    Parameter(type=23),
    Parameter(type=17, base64="AAE="),
    Parameter(type=23, withheld=True),
    Parameter(type=23, value=42),
    Parameter(type=16, value=True),
    Parameter(type=25, value="it's <i>\x1b[1m"),
    Parameter(type=25, value="host=h password=***", masked=True),
)


def story() -> list[Record]:
    """All of it."""
    return [
        start(),
        StatementPrepare(sql="SELECT <$1>\x1b", name="s\u202e"),
        asked(1, EVIL, *VALUES, kind="execute", name="s\u202e"),
        done(1, "SELECT 3", rows=3),
        asked(2, "BEGIN", transaction=2),
        done(2, "BEGIN", state="T"),
        asked(3, "UPDATE t SET secret = '***'", transaction=2, state="T", masked=True),
        done(3, sqlstate="42P01", message='relation "<t>" \x1b[31mdoes not exist', state="E"),
        asked(4, "ROLLBACK", transaction=2, state="E"),
        done(4, "ROLLBACK"),
        asked(5, "COPY t FROM stdin", transaction=3),
        CopyData(statement=5, direction="in", base64="AAEC"),
        CopyData(statement=5, direction="in", base64="AA=="),
        Copy(statement=5, direction="in", bytes=4),
        done(5, "COPY 2", rows=2),
        asked(6, "DELETE FROM a; CREATE TABLE b ()", transaction=4),
        done(6, "DELETE 2", "CREATE TABLE", rows=2),
        asked(7, "SELECT planned", transaction=5),
        done(7, "SELECT 1", rows=1, ran=Ran(sql="SELECT ran", parameters=[Parameter(type=23)])),
        Cancel(forwarded=False, address="10.0.0.7"),
        Notice(severity="WARNING", sqlstate="01000", message="your grant ends in 1 minute"),
        Authorization(parameter="is_superuser", value="on"),
        GrantExtended(grant="grt_0123456789abcdef", expires_at=BEGAN + 7_200 * SECOND, by="carol"),
        asked(8, "INSERT INTO t SELECT generate_series(1, 1e9)", transaction=6),
        end(),
    ]


def told(*records: Record, step_ns: int = MS, session: str = "ses_1") -> tuple[Session, list[Item]]:
    """A session of these records, `step_ns` apart: its summary, and its timeline."""
    chain, teller = Chain(session), Teller(BEGAN)
    items: list[Item] = []
    summary: Session | None = None
    for number, record in enumerate(records):
        made = decode(chain.seal(record, at=BEGAN + number * step_ns))
        if summary is None:
            summary = begin(made, "edge")  # type: ignore[arg-type] # whoever tells a session begins at its beginning
        summary = advance(summary, [made], "head")
        items += teller.take(made)
    assert summary is not None
    return replace(summary, head="5e55" * 16), [*items, *teller.finish()]


def written(exporter: Exporter, items: list[Item]) -> bytes:
    """All that it makes of them."""
    return exporter.begin() + b"".join(exporter.take(item) for item in items) + exporter.finish()
