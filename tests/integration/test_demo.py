"""The main job: the demo's whole story holds, its lines work as printed, and it leaves nothing behind."""

import os
import re
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.binaries import postgresql_bin
from tests.harness.processes import Process, run

STORY_S = 300.0
STEPS = 18


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A temporary folder that the PostgreSQL's own account can reach too. Nothing may be left in it."""
    with tempfile.TemporaryDirectory(prefix="demo-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        assert list(folder.iterdir()) == []
        assert [command for command in commands() if name in command] == []


def commands() -> Iterator[str]:
    """The command lines of all processes."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            yield (process / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue


def demo(scratch: Path, *arguments: str, **variables: str) -> Process:
    """The demo, started. `sh deploy/demo.sh` does the same once it has made its environment."""
    environment = {"TMPDIR": str(scratch), **variables}
    return Process([sys.executable, "-m", "deploy.demo", *arguments], environment=environment)


@pytest.mark.slow
@pytest.mark.timeout(STORY_S)
def test_the_whole_story_holds(scratch: Path) -> None:
    """Every step with its check mark, one after the other, and exit code 0."""
    with demo(scratch, "--once") as once:
        status = once.wait(within=STORY_S)
        said = once.output
    assert status == 0, said
    assert len(re.findall("^✓ ", said, re.MULTILINE)) == STEPS, said
    assert f"all {STEPS} steps hold" in said


@pytest.mark.slow
@pytest.mark.timeout(STORY_S)
def test_it_stays_up_until_it_is_interrupted(scratch: Path) -> None:
    """The psql line connects as printed, each person's lines work, and Ctrl-C ends all of it."""
    with demo(scratch) as up:
        said = up.wait_for_output("curfew verify", within=STORY_S / 2)
        path = {"PATH": f"{postgresql_bin()}:{os.environ['PATH']}"}
        lines = [line.strip() for line in said.splitlines() if line.startswith("    ")]
        psql = next(line for line in lines if " psql " in line)
        assert "orders_customer_fkey" in run(["sh", "-c", psql], text="\\d orders\n", environment=path).stdout
        for command, expected in {
            "requests": "",
            "sessions": "orders/orders",
            "replay": "#1",
            "verify": "ok: ",
        }.items():
            line = next(line for line in lines if f"curfew {command}" in line)
            assert expected in run(["sh", "-c", line]).stdout
        up.signal(signal.SIGINT)
        assert up.wait() == 0
        assert up.output.endswith("ended, and everything removed\n")


def test_what_does_not_hold_is_told(scratch: Path) -> None:
    """The step, why, and an exit code for scripts."""
    with demo(scratch, "--once", PG_BIN="/nowhere") as once:
        assert once.wait() == 1
        assert "✗" in once.output
        assert "PG_BIN=/nowhere" in once.output
        assert "does not hold: PostgreSQL" in once.output
