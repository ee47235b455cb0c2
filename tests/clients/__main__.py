"""`python -m tests.clients [converse|ends|build] [CLIENT…]`: drive every client library that can be run here.

`converse` (what is done without a word) has each client's conversation through a proxy, once for each way to begin TLS
that it knows, and prints what was done, what was recorded, and whether that is what PostgreSQL's log says. `ends` has
each client's grant end in each state, compares that with pg_terminate_backend and no proxy, and writes the table into
proxy/README.md. `build` builds those that need it.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.clients import ends
from tests.clients.conversation import Result, converse
from tests.clients.programs import PROGRAMS, CannotBuildError, Program, named
from tests.clients.stand import Stand
from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id

HEADINGS = ("client", "version", "TLS", "done", "recorded", "result")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 where every client that can be run here was recorded as PostgreSQL saw it."""
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("converse", "ends", "build"), default="converse")
    parser.add_argument("client", nargs="*", metavar="CLIENT", help="default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    chosen = parser.parse_args(arguments)
    try:
        programs = ready(named(chosen.client))
    except ValueError as error:
        parser.error(str(error))
    if chosen.what == "build":
        return 0
    with house() as (cluster, proxy):
        if chosen.what == "ends":
            return 1 if asyncio.run(write_ends(programs, cluster, proxy)) else 0
        results = asyncio.run(talk(programs, cluster, proxy))
    if chosen.json is not None:
        chosen.json.write_text(json.dumps([asdict(one) for one in results], indent=2) + "\n")
    return 1 if any(one.faults for one in results) else 0


def say(text: str) -> None:
    """Print it at once."""
    print(text, flush=True)  # noqa: T201 a command speaks to its caller


def ready(programs: Sequence[Program]) -> list[Program]:
    """Those that can be run here, built; of the others it says why not."""
    able = []
    for program in programs:
        if lacking := program.lacks():
            say(f"left out: {lacking}")
            continue
        if not program.built():
            say(f"building {program.name}")
        try:
            program.prepare()
        except CannotBuildError as error:
            say(f"left out: {program.name} cannot be built: {error}")
            continue
        able.append(program)
    return able


@contextlib.contextmanager
def house() -> Iterator[tuple[Cluster, Proxy]]:
    """A PostgreSQL that logs every statement, and a proxy in front of it."""
    with tempfile.TemporaryDirectory(prefix="curfew-clients-") as folder:
        authority = Authority(Path(folder))
        with Cluster(authority, log_statements=True) as cluster:
            roles.install(cluster)
            with Proxy(cluster=cluster, ca=authority, folder=Path(folder) / "proxy") as proxy:
                yield cluster, proxy


async def talk(programs: Sequence[Program], cluster: Cluster, proxy: Proxy) -> list[Result]:
    """Each program's conversations, and the table of them."""
    say(row(HEADINGS) + "\n" + row(["---"] * len(HEADINGS)))
    results = []
    ways = [(program, negotiation) for program in programs for negotiation in program.negotiations]
    for number, (program, negotiation) in zip(itertools.count(1), ways, strict=False):
        database, grant = f"client_{number}", new_grant_id()
        roles.create_database(cluster, database)
        token = proxy.token(id=grant)
        stand = Stand(cluster=cluster, proxy=proxy, database=database, grant=grant, token=token)
        results.append(await converse(program, stand, negotiation=negotiation))
        say(row(cells(results[-1])))
    return results


def cells(result: Result) -> list[str]:
    """A result as the table has it."""
    copied = " and ".join(str(size) for size in result.copied)
    recorded = f"{result.statements} statements, {result.values} values, {result.cancels} cancel, COPY {copied} bytes"
    same = "as PostgreSQL logged it" if not result.faults else "; ".join(result.faults)
    return [result.client, result.version, result.negotiation, ", ".join(result.steps), recorded, same]


def row(fields: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(fields)} |"


async def write_ends(programs: Sequence[Program], cluster: Cluster, proxy: Proxy) -> list[str]:
    """Renew the page's rows of these programs; the others stay as they are. Returns where PostgreSQL's end differs."""
    rows, otherwise = ends.read_rows(), []
    for program in programs:
        observed = await ends.observe([program], proxy)
        before, cells = rows.get(program.name, []), ends.rows_of(observed)[program.name]
        rows[program.name] = [program.version(), *cells]
        say(row([program.name, *rows[program.name]]))
        if before[1:] != cells:
            say(f"that is new; it was {row(before)}")
        directly = await ends.observe_directly(program, cluster)
        for state, said in observed[program.name].items():
            if not said.is_like(directly[state]):
                otherwise.append(f"{program.name}, {state}: without a proxy, {directly[state]}")
                say(otherwise[-1])
    ends.write_rows({one.name: rows[one.name] for one in PROGRAMS if one.name in rows})
    return otherwise


if __name__ == "__main__":
    sys.exit(main())
