"""What the person sees when a grant ends, per client library and per what it was doing; and the table of it.

Each row is what the real library said through a real proxy. `python -m tests.clients ends` writes the table into
proxy/README.md, and a test holds its rows true for the clients that are here.
"""

import asyncio
import contextlib
import functools
import os
import re
import signal
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from proxy.leg import LINGER_S
from tests.clients.programs import ROOT, Program, environment
from tests.harness import roles
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.tokens import grant as make_grant
from tests.harness.waiting import eventually

README = ROOT / "proxy" / "README.md"
BEGIN, END = "<!-- ends: python -m tests.clients ends -->", "<!-- end of ends -->"
STATES = ("idle", "query", "copy-in", "copy-out")
HEADINGS = ("client", "version", "idle", "in a query", "in COPY in", "in COPY out")
LASTS_S = (2.0, 6.0, 15.0)
"""A grant, from when the programs are loaded. Where it ends before all are in their states: the next one."""
WITHIN_S = 40.0
UNTOLD_S = {"idle": 0.3, "copy-in": LINGER_S + 1}
"""How long a library may take to tell of the end by itself. A COPY's data goes on for longer than the proxy lingers."""
MESSAGE = "access to orders has ended: the grant has expired"
ADMINISTRATOR = "terminating connection due to administrator command"
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

    def is_like(self, other: "Said") -> bool:
        """Whether the person learns as much from it, as soon."""
        knows, knew = (MESSAGE in one.text or ADMINISTRATOR in one.text for one in (self, other))
        return knows == knew and (self.late, self.error, self.sqlstate) == (other.late, other.error, other.sqlstate)

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


class Way(Protocol):
    """Who ends the connections, and how a program gets one."""

    def environment(self, state: str) -> Mapping[str, str]:
        """The variables of libpq's."""

    def secret(self, grant: str) -> str:
        """What the program reads as its password."""

    async def over(self, grant: str, state: str) -> None:
        """Returns when it has come to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curfew:
    """The proxy does, when the grant expires."""

    proxy: Proxy
    until: float

    def environment(self, state: str) -> Mapping[str, str]:  # noqa: ARG002 the same for each
        """Through the proxy."""
        return self.proxy.psql_env("-")

    def secret(self, grant: str) -> str:
        """A token of its own."""
        return self.proxy.signer.token(make_grant(id=grant, profile="app"), exp=self.until)

    async def over(self, grant: str, state: str) -> None:
        """Once it is on record."""
        if time.time() >= self.until:
            raise TooEarlyError(f"{state}: not ready while its grant lasted")
        await self.proxy.session_of(grant)


@dataclass(frozen=True, slots=True, kw_only=True)
class Administrator:
    """Without a proxy, somebody calls pg_terminate_backend: what Curfew's end is compared with."""

    cluster: Cluster

    def environment(self, state: str) -> Mapping[str, str]:
        """To PostgreSQL, in a database that tells the states apart."""
        return {
            "PGHOST": "localhost",
            "PGPORT": str(self.cluster.port),
            "PGUSER": roles.APP.user,
            "PGDATABASE": database_of(state),
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": str(self.cluster.authority.file),
        }

    def secret(self, grant: str) -> str:  # noqa: ARG002 there is none
        """The role's password."""
        return roles.APP.password

    async def over(self, grant: str, state: str) -> None:  # noqa: ARG002 there is none
        """Once the backend, which is busy with what the program said that it does, is terminated."""
        busy = "state = 'idle'" if state == "idle" else "state = 'active'"
        found = "FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend' AND"
        name = database_of(state)

        async def terminated() -> bool:
            return bool(await self.cluster.sql(f"SELECT pg_terminate_backend(pid) {found} {busy}", name))

        await eventually(terminated)


def database_of(state: str) -> str:
    """The database for a state, without a proxy."""
    return f"end_{state.replace('-', '_')}"


async def observe(programs: Sequence[Program], proxy: Proxy) -> dict[str, dict[str, Said]]:
    """What each says in each state when its grant expires, all at the same time."""
    for lasts_s in LASTS_S[:-1]:
        with contextlib.suppress(TooEarlyError):
            return await _observe(programs, functools.partial(_lasting, proxy, lasts_s))
    return await _observe(programs, functools.partial(_lasting, proxy, LASTS_S[-1]))


def _lasting(proxy: Proxy, seconds: float) -> Curfew:
    return Curfew(proxy=proxy, until=time.time() + seconds)


async def observe_directly(program: Program, cluster: Cluster) -> dict[str, Said]:
    """What it says when PostgreSQL itself ends its connection."""
    for state in STATES:
        roles.create_database(cluster, database_of(state))
    try:
        return (await _observe([program], lambda: Administrator(cluster=cluster)))[program.name]
    finally:
        for state in STATES:
            roles.drop_database(cluster, database_of(state))


async def _observe(programs: Sequence[Program], begin: Callable[[], Way]) -> dict[str, dict[str, Said]]:
    first = begin()
    running = await asyncio.gather(*(_start(program, state, first) for program in programs for state in STATES))
    try:
        async with asyncio.timeout(WITHIN_S):
            await asyncio.gather(*(one.heard("loaded") for one in running))
            way = begin()  # The time counts from here: what loads slowly has loaded.
            said = await _all(*(_see(one, way) for one in running))
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
        error: Exception = group
        while isinstance(error, ExceptionGroup):  # a failure in a group inside
            error = error.exceptions[0]
        raise error from None
    return [task.result() for task in tasks]


async def _start(program: Program, state: str, way: Way) -> _Running:
    given = {**os.environ, **way.environment(state), **environment()}
    for name in ("PGPASSWORD", "PGHOSTADDR"):
        given.pop(name, None)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *program.command(state), env=given, cwd="/", start_new_session=True, stdin=pipe, stdout=pipe, stderr=pipe
    )
    return _Running(program=program, state=state, process=process, grant=new_grant_id())


async def _see(one: _Running, way: Way) -> Said:
    await one.tell(way.secret(one.grant))
    try:
        await one.heard("ready")
    except AssertionError as error:
        if isinstance(way, Curfew) and time.time() >= way.until:
            raise TooEarlyError(str(error)) from None
        raise
    async with asyncio.TaskGroup() as listening:
        telling = listening.create_task(one.heard("said"))
        await way.over(one.grant, one.state)
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
    """The rows that the page has, by client: the version that they were seen with, then the cells."""
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
