"""The worker that parses, with SQL that really kills it. Nothing here may load the parser but the worker."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control.evidence.parsed import MOST_BYTES, Label, Parsed
from control.evidence.parsing import Parser, ParserError
from control.tasks import spawn
from tests.harness.processes import run
from tests.harness.waiting import eventually

DEADLY = b"SELECT " + b"+".join([b"1"] * 60_000)
GOOD = Parsed(classes=["SELECT"], tables=[("t", False)])


@pytest.fixture
async def parser() -> AsyncIterator[Parser]:
    """One worker."""
    made = Parser()
    yield made
    await made.close()


async def test_a_text_that_kills_the_parser(parser: Parser) -> None:
    """Valid SQL, 120 KB of a sum: a label each time, the next text is parsed, and the outer worker stays."""
    assert await parser.parse(b"SELECT * FROM t") == GOOD
    assert parser._process is not None
    worker = parser._process.pid
    for _ in range(3):
        assert await parser.parse(DEADLY) == Parsed(label=Label.CRASHED)
        assert await parser.parse(b"SELECT * FROM t") == GOOD
    assert parser._process.pid == worker


async def test_many_texts_at_once(parser: Parser) -> None:
    """Each gets its own answer, whatever becomes of those before it; too long ones never reach the worker."""
    texts = [b"SELECT * FROM t", DEADLY, b"x" * (MOST_BYTES + 1), b"SELECT * FROM t", DEADLY, DEADLY, b"SELEC"]
    dead, long_ = Parsed(label=Label.CRASHED), Parsed(label=Label.LONG)
    answers = await parser.parse_all(texts)
    assert answers == [GOOD, dead, long_, GOOD, dead, dead, Parsed(label=Label.UNPARSED)]
    assert await parser.parse_all([]) == []
    many = [f"SELECT * FROM t{number}".encode() for number in range(5_000)]
    assert [one.tables for one in await parser.parse_all(many)] == [[(f"t{number}", False)] for number in range(5_000)]


async def test_a_worker_that_is_killed_between_many(parser: Parser) -> None:
    """What it had not answered is asked again of the next one."""
    many = [f"SELECT * FROM t{number}".encode() for number in range(4_000)]
    await parser.parse(b"")
    assert parser._process is not None
    asked = spawn("parse", parser.parse_all(many))
    await asyncio.sleep(0)
    os.killpg(parser._process.pid, signal.SIGKILL)
    assert [one.tables for one in await asked] == [[(f"t{number}", False)] for number in range(4_000)]


async def test_a_text_that_takes_too_long(parser: Parser) -> None:
    """By the processor's time; and by the clock, where a worker does not answer at all."""
    parser._cpu_s = 0.05
    slow = b"SELECT " + b",".join([b"1"] * 120_000)
    assert await parser.parse(slow) == Parsed(label=Label.TIMEOUT)
    assert await parser.parse(b"SELECT * FROM t") == GOOD
    assert parser._process is not None
    parser._answer_s = 0.2
    os.killpg(parser._process.pid, signal.SIGSTOP)
    assert await parser.parse(b"SELECT * FROM t") == Parsed(label=Label.TIMEOUT)
    parser._answer_s = 60
    assert await parser.parse(b"SELECT * FROM t") == GOOD


async def test_a_worker_that_is_killed_says_nothing_of_the_text(parser: Parser) -> None:
    """By the system, short of memory, for instance: the text is parsed again."""
    await parser.parse(b"")
    assert parser._process is not None
    os.killpg(parser._process.pid, signal.SIGKILL)
    await parser._process.wait()
    assert await parser.parse(b"SELECT * FROM t") == GOOD


async def test_one_that_is_waited_for_no_more(parser: Parser) -> None:
    """Its answer is not taken for the next one's."""
    await parser.parse(b"")
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await parser.parse(DEADLY)
        assert await parser.parse(b"SELECT * FROM t") == GOOD


async def test_a_long_text_is_not_tried(parser: Parser) -> None:
    """No worker is even started."""
    assert await parser.parse(b" " * (MOST_BYTES + 1)) == Parsed(label=Label.LONG)
    assert parser._process is None


async def test_no_worker_to_be_had(parser: Parser, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is labelled for that: the index waits."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ParserError, match="postgast"):
        await parser.parse(b"SELECT 1")


async def test_the_worker_ends_with_its_service(parser: Parser) -> None:
    """Where that is killed, the pipe is closed, and that is all the worker hears."""
    await parser.parse(b"")
    process = parser._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()
    assert await process.wait() == 0


async def test_what_the_worker_has(parser: Parser) -> None:
    """No environment, little memory, no files: there is nothing to be had by taking it over."""
    await parser.parse(b"")
    assert parser._process is not None
    children = Path(f"/proc/{parser._process.pid}/task/{parser._process.pid}/children")
    (inner,) = children.read_text().split()
    names = [entry.split(b"=")[0] for entry in Path(f"/proc/{inner}/environ").read_bytes().split(b"\0") if entry]
    assert [name for name in names if name not in (b"PYTHONPATH", b"LC_CTYPE")] == []
    limits = Path(f"/proc/{inner}/limits").read_text()
    for line in (
        "Max core file size        0 ",
        "Max file size             0 ",
        "Max address space         1073741824 ",
    ):
        assert line in limits
    assert await eventually(lambda: len(list(Path(f"/proc/{inner}/fd").iterdir())) == 3)


def test_the_service_never_loads_the_parser() -> None:
    """Neither postgast nor what uses it: a crash there would be a crash of the service."""
    code = "import sys, control.cli, control.server; print([name for name in sys.modules if 'postgast' in name])"
    assert run([sys.executable, "-c", code]).stdout.strip() == "[]"
