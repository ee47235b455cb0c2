"""`python -m tests.fuzz [TARGET ...] [--seconds N] [--corpus DIR]`: fuzz the targets, and say what was found.

Exit status 0 where no input failed, else 1. A failing input is kept, and its path printed; give it to `--replay`.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from tests.fuzz.targets import NAMES, UNGUIDED

CORPUS = Path(__file__).parent / "corpus"
SECONDS = 60
START_S = 120
"""What starting and reading the corpus may take on top, where others keep the machine busy."""
SHOWN_LINES = 40
_SOURCES = {**os.environ, "CURFEW_FRAMER": "python"}
"""Nobody sees the branches of a compiled module."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of fuzzing a target."""

    target: str
    tried: int
    seconds: float
    new: int
    failed: tuple[Path, ...]
    """The inputs that did."""
    status: int
    """Of the fuzzer's process."""
    output: str

    @property
    def passed(self) -> bool:
        """It ran to its end, and no input failed."""
        return self.status == 0 and not self.failed

    def __str__(self) -> str:
        said = f"{self.target:12} {self.tried:>11,} inputs in {self.seconds:,.0f} s, {self.new} worth keeping"
        return f"{said}, {len(self.failed)} failed" if self.failed else said


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.target) - set(NAMES):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    targets = chosen.target or list(NAMES)
    if chosen.replay is not None:
        import_module(f"tests.fuzz.targets.{targets[0]}").check(chosen.replay.read_bytes())
        _say("passed")
        return 0
    if chosen.minimise:
        return max(_minimise(name, chosen.corpus) for name in targets)
    with tempfile.TemporaryDirectory(prefix="curfew-fuzz-") as scratch:
        folder = chosen.corpus or Path(scratch)
        with ThreadPoolExecutor(chosen.jobs) as pool:
            passed = [_tell(one) for one in pool.map(lambda name: fuzz(name, chosen.seconds, folder / name), targets)]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    _say(f"{used.ru_utime + used.ru_stime:,.0f} s of CPU")
    return 0 if all(passed) else 1


def fuzz(target: str, seconds: int, kept: Path) -> Result:
    """Fuzz a target in a process of its own, on the sources; new inputs are kept in `kept`."""
    kept.mkdir(parents=True, exist_ok=True)
    before, started = set(kept.iterdir()), time.monotonic()
    command: list[str | Path] = [sys.executable, "-m", "tests.fuzz.engine", target, str(seconds), kept, CORPUS / target]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + START_S,
        check=False,
        env=environment(target),
    )
    lines = [one for one in (done.stdout + done.stderr).splitlines() if not one.startswith(("#", "INFO:"))]
    output = "\n".join(lines)
    new = set(kept.iterdir()) - before
    failed = {path for path in new if re.match("crash-|timeout-|oom-", path.name)}
    tried = re.search(r"number_of_executed_units: (\d+)", output)
    return Result(
        target=target,
        tried=int(tried[1]) if tried else 0,
        seconds=time.monotonic() - started,
        new=len(new - failed),
        failed=tuple(sorted(failed)),
        status=done.returncode,
        output="\n".join(lines[-SHOWN_LINES:]),
    )


def environment(target: str) -> dict[str, str]:
    """Of the fuzzer's process: on the sources, but where it is the compiled code that is tried."""
    return {**os.environ, "CURFEW_FRAMER": ""} if target in UNGUIDED else _SOURCES


def _tell(result: Result) -> bool:
    """Say what came of it, and whether it passed; what failed is put where it stays."""
    _say(str(result))
    if not result.passed:
        _say(result.output)
    for path in result.failed:
        kept = Path(tempfile.gettempdir()) / f"curfew-fuzz-{result.target}-{path.name}"
        kept.write_bytes(path.read_bytes())
        _say(f"  python -m tests.fuzz {result.target} --replay {kept}")
    return result.passed


def _minimise(target: str, folder: Path | None) -> int:
    """Leave in the target's corpus what is worth keeping, of a run's folder too; an exit status."""
    command: list[str | Path] = [sys.executable, "-m", "tests.fuzz.minimise", target, CORPUS / target]
    return subprocess.run(
        [*command, *([] if folder is None else [folder / target])], check=False, env=_SOURCES
    ).returncode


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="*", metavar="TARGET", help=f"{', '.join(NAMES)}; default: all")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="for each target (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="targets at once (default %(default)s)")
    parser.add_argument(
        "--corpus", type=Path, metavar="DIR", help="keep new inputs in DIR/TARGET, and start from those that are there"
    )
    parser.add_argument(
        "--minimise", action="store_true", help="only put what is worth keeping of DIR into tests/fuzz/corpus"
    )
    parser.add_argument("--replay", type=Path, metavar="FILE", help="only check this input, of the one TARGET named")
    return parser


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 a command speaks to its caller


if __name__ == "__main__":
    sys.exit(main())
