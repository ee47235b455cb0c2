"""One target, fuzzed in this process: by atheris (coverage-guided) where that can be had, else by plain mutation.

`python -m tests.fuzz.engine TARGET SECONDS KEPT FOLDER...`: a process of its own, because libFuzzer ends the one it
runs in. Tries inputs made of those in the folders; new ones worth keeping go to KEPT, and so does `crash-...`, the
input that failed, with exit status 1 or 77. The last line on stdout says how many inputs were tried.
"""

import hashlib
import importlib
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, NoReturn

from tests.fuzz import twins
from tests.fuzz.mutations import mutate_bytes
from tests.fuzz.targets import UNGUIDED

LONGEST = 8_192
"""Bytes of an input: no bug that was found here needed more."""
MEMORY_MB = 1_024
INPUT_S = 10
OWN_MUTATIONS = 0.6
"""How often the target's own mutation is asked, where libFuzzer has its blind ones."""


def fuzz(name: str, seconds: int, kept: Path, folders: Sequence[Path]) -> NoReturn:
    """Fuzz, and end the process."""
    if name in UNGUIDED:
        _plainly(name, seconds, kept, folders)
    try:
        import atheris  # noqa: PLC0415 a platform may have none
    except ImportError:
        _plainly(name, seconds, kept, folders)
    assert twins.FAMILY, "imported first: its finder stands behind the one that instruments"
    with atheris.instrument_imports(include=["proxy"]):
        target = importlib.import_module(f"tests.fuzz.targets.{name}")

    def check(data: bytes) -> None:
        try:
            target.check(data)
        except Exception:
            _keep(data, kept)  # libFuzzer does it as a rule, not always.
            raise

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < OWN_MUTATIONS:
            return bytes(target.mutate(data, random))[:longest]
        return bytes(atheris.Mutate(data, longest))

    arguments = [
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-timeout={INPUT_S}",
        f"-artifact_prefix={kept}/",
        "-print_final_stats=1",
    ]
    atheris.Setup([name, *arguments, str(kept), *map(str, folders)], check, custom_mutator=mutate)
    atheris.Fuzz()
    raise AssertionError("libFuzzer has ended the process")


def _plainly(name: str, seconds: int, kept: Path, folders: Sequence[Path]) -> NoReturn:
    """Without coverage: inputs of the corpus, changed a little."""
    target: Any = importlib.import_module(f"tests.fuzz.targets.{name}")
    inputs = [path.read_bytes() for folder in folders for path in sorted(folder.iterdir())] or [b""]
    until, tried, random = time.monotonic() + seconds, 0, Random()
    while time.monotonic() < until:
        data = random.choice(inputs)
        for _ in range(random.choice([1, 2, 4, 8])):
            data = (target.mutate if random.random() < OWN_MUTATIONS else mutate_bytes)(data, random)[:LONGEST]
        tried += 1
        try:
            target.check(data)
        except Exception:  # noqa: BLE001 whatever it is, it is what was looked for
            traceback.print_exc()
            _keep(data, kept)
            sys.exit(1)
    print(f"stat::number_of_executed_units: {tried}", file=sys.stderr)  # noqa: T201 as libFuzzer
    sys.exit(0)


def _keep(data: bytes, kept: Path) -> None:
    """Under the name that libFuzzer would give it."""
    (kept / f"crash-{hashlib.sha1(data).hexdigest()}").write_bytes(data)


if __name__ == "__main__":
    fuzz(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), [Path(one) for one in sys.argv[4:]])
