"""What the tests of the journal share: opening one that retries at once, reading it, and records to put into it."""

from pathlib import Path

from proxy import segments
from proxy.contract.record import Chain, Notice, SessionEnd, SessionStart
from proxy.journal import Journal

SEGMENT_BYTES = 1 << 20
LIMIT_BYTES = 1 << 24


def open_journal(
    directory: Path,
    *,
    segment_bytes: int = SEGMENT_BYTES,
    limit_bytes: int = LIMIT_BYTES,
    retention_s: float = 0,
    retry_s: float = 0,
) -> Journal:
    """A journal that retries at every flush."""
    sizes = {"segment_bytes": segment_bytes, "limit_bytes": limit_bytes}
    return Journal.open(directory, **sizes, retention_s=retention_s, retry_s=retry_s)


def stored(directory: Path) -> list[bytes]:
    """Every line on disk, segment by segment."""
    files = [segments.path_of(directory, number) for number in segments.numbers(directory)]
    return b"".join(path.read_bytes() for path in files).splitlines()


def start_record() -> SessionStart:
    """The first record of a session."""
    return SessionStart(
        grant="grt_1",
        person="ada",
        expires_at=1,
        target="orders",
        database="orders",
        profile="dba",
        upstream_user="app",
        backend_pid=1,
        backend_start="2026-01-01T00:00:00.000000+00:00",
        proxy="p1",
    )


def end_record() -> SessionEnd:
    """The last one of a crashed session."""
    return SessionEnd(reason="crashed", decided_at=1, outcome="unknown", statements=0, bytes_in=0, bytes_out=0)


def notice(text: str = "soon") -> Notice:
    """A small record for the middle."""
    return Notice(severity="NOTICE", sqlstate="00000", message=text)


def begin(journal: Journal, session: str) -> Chain:
    """Write a session's start."""
    chain = Chain(session)
    journal.append_start(chain, chain.seal(start_record()))
    return chain
