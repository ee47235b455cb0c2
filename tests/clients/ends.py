"""What the person sees when a grant ends, per client library and per what it was doing; and the table of it.

Each row is what the real library said through a real proxy. `python -m tests.clients ends` writes the table into
proxy/README.md, and a test holds its rows true for the clients that are here.
"""

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.leg import LINGER_S
from tests.clients.programs import ROOT, Program, environment
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.tokens import grant as make_grant

README = ROOT / "proxy" / "README.md"
BEGIN, END = "<!-- ends: python -m tests.clients ends -->", "<!-- end of ends -->"
STATES = ("idle", "query", "copy-in", "copy-out")
HEADINGS = ("client", "idle", "in a query", "in COPY in", "in COPY out")
LASTS_S = (2.0, 6.0, 15.0)
"""A grant, from when the programs are loaded. Where it ends before all are in their states: the next one."""
WITHIN_S = 40.0
UNTOLD_S = {"idle": 0.3, "copy-in": LINGER_S + 1}
"""How long a library may take to tell of the end by itself. A COPY's data goes on for longer than the proxy lingers."""
MESSAGE = "access to orders has ended: the grant has expired"
DETAIL = "Work that was open: "
HINT = "Ask again: curfew request orders app"
_LONGEST = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A library's last words on a connection."""

    late: bool
    """Only at the next use (idle), or once the data has ended (COPY in)."""
    error: str
    """The exception's class, where there is one."""
    sqlstate: str
    text: str
    detail: str
    hint: str
    """DETAIL and HINT, where the library has them apart from the text."""

    def cell(self, state: str) -> str:
        """The table's cell."""
        parts = [f"`{self.error}`"] if self.error else []
        parts += [self.sqlstate] if self.sqlstate and self.sqlstate not in self.text else []
        opening = {
            ("idle", False): "at once: ",
            ("idle", True): "at the next use: ",
            ("copy-in", True): "once its data has ended: ",
        }
        named = " ".join(parts)
        return f"{opening.get((state, self.late), '')}{named}{': ' if named else ''}{self._told()}"

    def _told(self) -> str:
        """What of the proxy's own words is there; the library's, where there is nothing."""
        if MESSAGE not in self.text:
            return f"“{re.sub(r'[0-9]+', 'N', self.text).strip()[:_LONGEST]}”"
        inside = [name for name, what in (("detail", DETAIL), ("hint", HINT)) if what in self.text]
        apart = [
            name
            for name, found, what in (("detail", self.detail, DETAIL), ("hint", self.hint, HINT))
            if found.startswith(what) and name not in inside
        ]
        told = ", ".join(["the reason", *inside])
        return told + (f"; {' and '.join(apart)} as {'fields' if len(apart) > 1 else 'a field'}" if apart else "")


@dataclass(slots=True, kw_only=True)
class _Running:
    """A program in one state."""

    program: Program
    state: str
    process: asyncio.subprocess.Process
    grant: str

    async def heard(self, word: str) -> list[str]:
        """The fields of the next line that begins with `word`."""
        assert self.process.stdout is not None
        before = []
        while line := await self.process.stdout.readline():
            first, *fields = line.decode().rstrip("\n").split("\t")
            if first == word:
                return fields
            before.append(line)
        raise AssertionError(f"{self.program.name}, {self.state}: no {word!r}, but {before}, {await self.errors()}")

    async def errors(self) -> str:
        """What it wrote to standard error."""
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()

    async def tell(self, text: str) -> None:
        """A line on its standard input; it may have ended."""
        assert self.process.stdin is not None
        with contextlib.suppress(ConnectionError):
            self.process.stdin.write(f"{text}\n".encode())
            await self.process.stdin.drain()


class TooEarlyError(AssertionError):
    """A grant that had ended before the program was in its state."""


async def observe(programs: Sequence[Program], proxy: Proxy) -> dict[str, dict[str, Said]]:
    """What each says in each state, all at the same time."""
    for lasts_s in LASTS_S[:-1]:
        with contextlib.suppress(TooEarlyError):
            return await _observe(programs, proxy, lasts_s)
    return await _observe(programs, proxy, LASTS_S[-1])


async def _observe(programs: Sequence[Program], proxy: Proxy, lasts_s: float) -> dict[str, dict[str, Said]]:
    running = await asyncio.gather(*(_start(program, state, proxy) for program in programs for state in STATES))
    try:
        async with asyncio.timeout(WITHIN_S):
            await asyncio.gather(*(one.heard("loaded") for one in running))
            until = time.time() + lasts_s
            said = await _all(*(_see(one, proxy, until) for one in running))
    finally:
        for one in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(one.process.pid, signal.SIGKILL)  # with what it has started itself
        await asyncio.gather(*(one.process.wait() for one in running))
    found: dict[str, dict[str, Said]] = {}
    for one, words in zip(running, said, strict=True):
        found.setdefault(one.program.name, {})[one.state] = words
    return found


async def _all(*those: Coroutine[Any, Any, Said]) -> list[Said]:
    """As asyncio.gather, but a failure ends the others, and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as together:
            tasks = [together.create_task(one) for one in those]
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    return [task.result() for task in tasks]


async def _start(program: Program, state: str, proxy: Proxy) -> _Running:
    given = {**os.environ, **proxy.psql_env("-"), **environment()}
    for name in ("PGPASSWORD", "PGHOSTADDR"):
        del given[name]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *program.command(state), env=given, cwd="/", start_new_session=True, stdin=pipe, stdout=pipe, stderr=pipe
    )
    return _Running(program=program, state=state, process=process, grant=new_grant_id())


async def _see(one: _Running, proxy: Proxy, until: float) -> Said:
    grant = make_grant(id=one.grant, profile="app")
    await one.tell(proxy.signer.token(grant, exp=until))
    try:
        await one.heard("ready")
    except AssertionError as error:
        if time.time() < until:
            raise
        raise TooEarlyError(str(error)) from None
    if time.time() >= until:
        raise TooEarlyError(f"{one.program.name}, {one.state}: not ready while its grant lasted")
    async with asyncio.TaskGroup() as listening:
        telling = listening.create_task(one.heard("said"))
        await proxy.session_of(one.grant)
        await asyncio.wait([telling], timeout=UNTOLD_S.get(one.state))
        late = not telling.done()
        await one.tell("now")
    error_class, sqlstate, text, detail, hint = telling.result()
    return Said(late=late, error=error_class, sqlstate=sqlstate, text=text, detail=detail, hint=hint)


# --- the table


def rows_of(observed: Mapping[str, Mapping[str, Said]]) -> dict[str, list[str]]:
    """The table's cells, by client."""
    return {name: [said[state].cell(state) for state in STATES] for name, said in observed.items()}


def read_rows(path: Path = README) -> dict[str, list[str]]:
    """The rows that the page has, by client."""
    _, _, rest = path.read_text().partition(BEGIN)
    table, _, _ = rest.partition(END)
    lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.strip().splitlines()[2:]]
    return {name: cells for name, *cells in lines}


def write_rows(rows: Mapping[str, Sequence[str]], path: Path = README) -> None:
    """Put them into the page, between its two marks."""
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{path} has no {BEGIN} and {END}")
    lines = [f"| {' | '.join(cells)} |" for cells in (HEADINGS, *([name, *cells] for name, cells in rows.items()))]
    lines.insert(1, "|---" * len(HEADINGS) + "|")
    path.write_text("\n".join([before + BEGIN, *lines, END]) + after)
