"""The cases: what is measured, with which program, and how its answer is read. One call is one measurement."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from tests.bench.ways import Way
from tests.harness.binaries import postgresql_bin
from tests.harness.processes import run

MEGABYTE = 1_000_000
_ROW_BYTES = 264
"""What a row of `bulk` is as COPY's text, about: a number, a tab, 256 hex digits, a newline."""
_SLACK_S = 120.0
_TPS = re.compile(r"^tps = ([\d.]+)", re.MULTILINE)
_PROCESSED = re.compile(r"^number of transactions actually processed: (\d+)", re.MULTILINE)
_TIME = re.compile(r"^Time: ([\d.]+) ms", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """How much work one measurement is."""

    seconds: int = 3
    transactions: int | None = None
    """For each client, in place of a time."""
    scale: int = 10
    """pgbench's: 100,000 accounts each."""
    copy_megabytes: int = 300

    @property
    def length(self) -> list[str]:
        """The same as pgbench's options."""
        return ["-T", str(self.seconds)] if self.transactions is None else ["-t", str(self.transactions)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One measurement: the figure, and how many operations (transactions, sessions, megabytes) it took."""

    value: float
    operations: float


Measure: TypeAlias = Callable[[Mapping[str, str], Amount], Measured]
"""Measure a way once, given libpq's environment for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing to measure."""

    name: str
    metric: str
    unit: str
    measure: Measure
    tls: bool = False
    """Whether the client's connection is encrypted."""

    def run(self, way: Way, amount: Amount) -> Measured:
        """Measure `way` once."""
        return self.measure(way.environment(tls=self.tls), amount)


def load_data(way: Way, amount: Amount) -> None:
    """Make the tables that the cases read, over the way of their owner."""
    environment = way.environment(tls=False)
    # Drop, tables, rows made by the server, vacuum, primary keys.
    made = ["-i", "-I", "dtGvp", "-q", "-s", str(amount.scale)]
    run([postgresql_bin() / "pgbench", *made], environment=environment, within=_SLACK_S)
    rows = amount.copy_megabytes * MEGABYTE // _ROW_BYTES
    bulk = f"CREATE TABLE bulk AS SELECT n, repeat(md5(n::text), 8) AS t FROM generate_series(1, {rows}) AS n"
    finished = ["-c", bulk, "-c", "VACUUM ANALYZE bulk", "-c", "ALTER TABLE bulk SET (autovacuum_enabled = off)"]
    run([postgresql_bin() / "psql", "-X", "-q", *finished], environment=environment, within=_SLACK_S)


def _pgbench(*options: str) -> Measure:
    def measure(environment: Mapping[str, str], amount: Amount) -> Measured:
        command: list[str | Path] = [postgresql_bin() / "pgbench", "-n", "-S", *options, *amount.length]
        said = run(command, environment=environment, within=amount.seconds + _SLACK_S).stdout
        return Measured(value=_number(_TPS, said), operations=_number(_PROCESSED, said))

    return measure


def _copy_out(environment: Mapping[str, str], amount: Amount) -> Measured:
    """COPY into /dev/null. psql times the statement alone, without its own start and login."""
    options = ["-X", "-q", "-A", "-t", "-o", "/dev/null"]
    asked = ["-c", r"\timing on", "-c", "COPY bulk TO STDOUT"]
    said = run([postgresql_bin() / "psql", *options, *asked], environment=environment, within=_SLACK_S).stdout
    size = amount.copy_megabytes
    return Measured(value=size / (_number(_TIME, said) / 1_000), operations=size)


def _number(pattern: re.Pattern[str], said: str) -> float:
    found = pattern.search(said)
    assert found, f"no {pattern.pattern!r} in:\n{said}"
    return float(found[1])


_BASE = (
    Case(name="select-simple-1", metric="tps", unit="transactions/s", measure=_pgbench("-M", "simple", "-c", "1")),
    Case(name="select-simple-8", metric="tps", unit="transactions/s", measure=_pgbench("-M", "simple", "-c", "8")),
    Case(name="select-prepared-1", metric="tps", unit="transactions/s", measure=_pgbench("-M", "prepared", "-c", "1")),
    Case(name="select-prepared-8", metric="tps", unit="transactions/s", measure=_pgbench("-M", "prepared", "-c", "8")),
    Case(name="copy-out", metric="throughput", unit="MB/s", measure=_copy_out),
    # Each transaction on a connection of its own. pgbench's threads connect one at a time: hence one for each client.
    Case(name="sessions", metric="logins", unit="sessions/s", measure=_pgbench("-C", "-c", "4", "-j", "4")),
)
_OVER_TLS = tuple(
    Case(name=f"{one.name}-tls", metric=one.metric, unit=one.unit, measure=one.measure, tls=True) for one in _BASE
)
CASES: Mapping[str, Case] = {one.name: one for one in (*_BASE, *_OVER_TLS)}
