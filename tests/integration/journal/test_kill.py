"""kill -9 loses nothing that an append had taken."""

import os
import random
import subprocess
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy import segments
from proxy.contract.record import Notice, SessionEnd, decode
from proxy.contract.verification import verify_chain
from proxy.journal import Journal
from tests.integration.journal.writer import LIMIT_BYTES, SEGMENT_BYTES

ROUNDS = 20


def run_and_kill(directory: Path, session: str, after: int) -> list[int]:
    """Let a writer run, kill it once it has said `after` numbers, and return all that it said."""
    arguments = [sys.executable, "-m", "tests.integration.journal.writer", str(directory), session]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(after)]
        process.kill()
        said += process.stdout.readlines()
    return [int(line) for line in said if line.endswith(b"\n")]


def lines_of(directory: Path, session: str) -> list[bytes]:
    """The session's lines, in order."""
    mark = f'"session":"{session}"'.encode()
    bodies = [segments.path_of(directory, number).read_bytes() for number in segments.numbers(directory)]
    assert all(body.endswith(b"\n") for body in bodies if body)
    return [line for body in bodies for line in body.splitlines() if mark in line]


def test_every_append_that_returned_is_there_after_kill_9(tmp_path: Path) -> None:
    """Twenty deaths at random moments on one journal: nothing is lost, it reopens, and every chain can be ended."""
    key = Ed25519PrivateKey.generate()
    seed = int.from_bytes(os.urandom(4))
    moments = random.Random(seed)
    for attempt in range(ROUNDS):
        session = f"ses_{attempt}"
        said = run_and_kill(tmp_path, session, moments.randrange(1, 800))
        journal = Journal.open(tmp_path, segment_bytes=SEGMENT_BYTES, limit_bytes=LIMIT_BYTES)
        assert list(journal.unfinished) == [session], f"seed {seed}"
        chain = journal.unfinished[session].chain
        end = SessionEnd(reason="crashed", decided_at=1, outcome="unknown", statements=0, bytes_in=0, bytes_out=0)
        journal.append_end(chain, chain.seal_signed(end, key))
        journal.close()

        lines = lines_of(tmp_path, session)
        assert verify_chain(lines, key.public_key()) == len(lines), f"seed {seed}"
        records = [decode(line) for line in lines]
        stored = [int(record.message.split()[0]) for record in records if isinstance(record, Notice)]
        assert stored == list(range(len(stored))), f"seed {seed}"
        assert set(said) <= set(stored), f"seed {seed}"
        assert len(said) > 0
    assert len(segments.numbers(tmp_path)) > 1
