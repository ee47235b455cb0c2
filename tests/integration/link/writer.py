"""A process that keeps a session open, writes it into its journal and ships that, until it is killed.

`python -m tests.integration.link.writer STATE_DIR NAME URL CA_FILE JOIN_TOKEN`: it ends the sessions that it finds
open, begins one of its own, and says `shipped` once control has all of it.
"""

import asyncio
import sys
import time
from pathlib import Path

from proxy.contract.record import Chain, Notice, SessionEnd, SessionStart
from proxy.control_link import ControlLink
from proxy.identity import load_or_create
from proxy.journal import Journal
from tests.harness.waiting import eventually

SIZES = {"segment_bytes": 1 << 20, "limit_bytes": 1 << 24}
NOTICES = 10


def _write(journal: Journal, state_dir: Path, name: str) -> None:
    key = load_or_create(state_dir)
    for found in journal.unfinished.values():
        end = SessionEnd(
            reason="crashed",
            decided_at=time.time_ns(),
            outcome="unknown",
            statements=0,
            bytes_in=0,
            bytes_out=0,
        )
        journal.append_end(found.chain, found.chain.seal_signed(end, key))
    chain = Chain(f"ses_{time.time_ns():x}")
    start = SessionStart(
        grant="grt_1",
        person="dba1",
        expires_at=time.time_ns() + 10**12,
        target="orders",
        database="shop",
        profile="dba",
        upstream_user="owner",
        backend_pid=1,
        backend_start="2026-01-01T00:00:00.000000+00:00",
        proxy=name,
        entry=journal.next_entry,
    )
    journal.append_start(chain, chain.seal(start))
    for _ in range(NOTICES):
        journal.append(chain.seal(Notice(severity="NOTICE", sqlstate="00000", message="soon")))


async def _ship(link: ControlLink, journal: Journal) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(link.run())
        await eventually(lambda: journal.acknowledged == journal.position, within=60)
        print("shipped", flush=True)  # noqa: T201 for the test that waits for it


def main() -> None:
    """Write and ship."""
    state, name, url, ca_file, token = sys.argv[1:]
    state_dir = Path(state)
    journal = Journal.open(state_dir / "journal", **SIZES)
    _write(journal, state_dir, name)
    link = ControlLink(
        name=name,
        url=url,
        ca_file=ca_file,
        join_token=lambda: token,
        state_dir=state_dir,
        key=load_or_create(state_dir),
        journal=journal,
        on_directive=lambda _: None,
    )
    asyncio.run(_ship(link, journal))


if __name__ == "__main__":
    main()
