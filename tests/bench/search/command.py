"""The command `python -m tests.bench search`: how fast statements are found, and what the index for it costs."""

import argparse
import asyncio
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.bench.pressure.finding import Finding
from tests.bench.search import asking, beside
from tests.bench.search.filling import Filling

Say = Callable[[str], None]
AMOUNT = 10_000_000
ROUNDS = 15
BATCHES = 40


def main(arguments: Sequence[str]) -> int:
    """Fill a store, index it, and search it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench search", description=__doc__)
    parser.add_argument("--records", type=int, default=AMOUNT, metavar="N", help="statements to search (%(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help="of each question (%(default)s)")
    parser.add_argument(
        "--batches", type=int, default=BATCHES, metavar="N", help="of records, taken in beside the index (%(default)s)"
    )
    parser.add_argument("--folder", type=Path, help="where the store is made, and stays (default: nowhere)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    chosen = parser.parse_args(arguments)
    _say(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="curfew-search-"))
    try:
        found = measure(folder, amount=chosen.records, rounds=chosen.rounds, batches=chosen.batches, say=_say)
    finally:
        if chosen.folder is None:
            shutil.rmtree(folder)
    if chosen.json is not None:
        figures = [asdict(one) | {"missed": one.missed} for one in found]
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n")
    _say("\n" + "\n".join(map(str, found)))
    return int(any(one.missed for one in found))


def measure(folder: Path, *, amount: int, rounds: int, batches: int, say: Say) -> list[Finding]:
    """All of it. A store that is there already is searched as it is."""
    path, filled = folder / asking.BOOKS, Filling(amount)
    if not path.exists():
        began = time.monotonic()
        filled.fill(path, say)
        say(f"filled: {amount} statements, {path.stat().st_size >> 20} MiB, in {time.monotonic() - began:.0f} s")
    found = asyncio.run(asking.index(folder, filled=filled, say=say))
    found += asyncio.run(asking.ask(folder, filled=filled, rounds=rounds, say=say))
    with tempfile.TemporaryDirectory(dir=folder) as other:
        return found + asyncio.run(beside.measure(Path(other), batches=batches, say=say))


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 a command speaks to its caller
