"""A process that writes a journal and says so: each record's number on standard output once its append has returned.

`python -m tests.integration.journal.writer DIRECTORY SESSION [FILE_LIMIT]`: runs until it is killed, or, with a limit
on the size of files (RLIMIT_FSIZE), until three appends in a row were refused.
"""

import os
import resource
import sys
from pathlib import Path

from proxy.contract.record import Chain, Notice
from proxy.journal import Journal, JournalError
from tests.unit.proxy.journals import start_record

SEGMENT_BYTES = 50_000
LIMIT_BYTES = 1 << 30


def notice(number: int = 0) -> Notice:
    """One more, of a size that varies."""
    return Notice(severity="NOTICE", sqlstate="00000", message=f"{number} " + "x" * (number * 37 % 600))


def say(text: object) -> None:
    """One line, at once."""
    os.write(sys.stdout.fileno(), f"{text}\n".encode())


def write(journal: Journal, chain: Chain) -> None:
    """Append for ever; every third record goes lazily before the next one."""
    number = 0
    while True:
        if number % 3 == 1:
            journal.append_lazily(chain.seal(notice(number)))
            number += 1
        journal.append(chain.seal(notice(number)))
        say(number)
        number += 1


def main() -> None:
    """Write a session's records until the end comes."""
    directory, session, *limit = sys.argv[1:]
    segment_bytes = LIMIT_BYTES if limit else SEGMENT_BYTES
    journal = Journal.open(Path(directory), segment_bytes=segment_bytes, limit_bytes=4 * LIMIT_BYTES, retry_s=0)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit[0]), int(limit[0])))
    chain = Chain(session)
    journal.append_start(chain, chain.seal(start_record()))
    try:
        write(journal, chain)
    except JournalError:
        say("refused")
    for again in (journal.append, journal.append_lazily):
        try:
            again(chain.seal(notice(-1)))
        except JournalError:
            say("refused")


if __name__ == "__main__":
    main()
