"""Which inputs of a target are worth keeping: the smallest ones that together go every way the others go.

`python -m tests.fuzz.minimise TARGET CORPUS [FOLDER...]` leaves those in CORPUS; run it with CURFEW_FRAMER=python.

A way is a pair of lines of the proxy's own, one run after the other, and roughly how often. No fuzzer is needed for it,
only Python's own tracing. An input in the corpus that somebody gave a name with a `-` in it is kept in any case.
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

from tests.fuzz.twins import ROOT

PROXY = str(ROOT / "proxy")
Way: TypeAlias = tuple[str, int, int, int]


def minimise(target: str, corpus: Path, folders: Iterable[Path]) -> int:
    """Make `corpus` those that are worth keeping of its inputs and the folders'; returns how many they are."""
    inputs = [path for folder in (corpus, *folders) for path in folder.iterdir() if "-" not in path.name]
    check = import_module(f"tests.fuzz.targets.{target}").check
    seen: set[Way] = set()
    kept = {path.name: path.read_bytes() for path in corpus.glob("*-*")}
    named = list(kept.values())
    for data in named + sorted({path.read_bytes() for path in inputs}, key=lambda data: (len(data), data)):
        found = ways(check, data)
        if not found <= seen and data not in kept.values():
            kept[hashlib.sha1(data).hexdigest()[:16]] = data
        seen |= found
    for path in corpus.iterdir():
        path.unlink()
    for name, data in kept.items():
        (corpus / name).write_bytes(data)
    return len(kept)


def ways(check: Callable[[bytes], None], data: bytes) -> set[Way]:
    """The ways through the proxy's sources that this input goes."""
    counted: Counter[tuple[str, int, int]] = Counter()

    def enter(frame: FrameType, _event: str, _argument: Any) -> Any:  # noqa: ANN401 as sys.settrace has it
        name = frame.f_code.co_filename
        if not name.startswith(PROXY):
            return None
        before = frame.f_lineno

        def step(frame: FrameType, event: str, _argument: Any) -> Any:  # noqa: ANN401 as above
            nonlocal before
            if event == "line":
                counted[name, before, frame.f_lineno] += 1
                before = frame.f_lineno
            return step

        return step

    sys.settrace(enter)
    try:
        check(data)
    finally:
        sys.settrace(None)
    return {(*way, min(times.bit_length(), _MOST)) for way, times in counted.items()}


_MOST = 3
"""Once, twice or thrice, or more often: the finer, the larger the corpora."""


if __name__ == "__main__":
    count = minimise(sys.argv[1], Path(sys.argv[2]), [Path(one) for one in sys.argv[3:]])
    print(f"{sys.argv[1]:12} {count} inputs in its corpus")  # noqa: T201 a command speaks to its caller
