"""PostgreSQL's own programs: what each prints and leaves behind must be the same on both ways.

Not a suite by others, but programs by others: psql with all its commands, pgbench in its modes, dumps, restores, base
backups, logical decoding. tests/clients has what is recorded of them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.harness.binaries import postgresql_bin
from tests.suites.outcomes import Outcome, Outcomes
from tests.suites.suite import Place, Suite, Way

DATABASE, RESTORED = "programs", "restored"
SCRIPT = Path(__file__).with_name("psql.sql")
_SAID = 3_000
_SEED = "--random-seed=42"
_PIPELINE = "\\set n random(1, 1000)\n\\startpipeline\n" + "SELECT :n;\nSELECT :n + 1;\n" * 10 + "\\endpipeline\n"
_COUNTED = re.compile(r"^(number of (?:transactions actually|failed).*|transaction type.*|query mode.*)$", re.MULTILINE)
_KEYS = re.compile(r"^\\(?:un)?restrict .*$", re.MULTILINE)
"""Since 2025, random in each dump: https://www.postgresql.org/docs/current/app-pgdump.html, --restrict-key."""
_TIMES = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+")
"""pgbench_history.mtime."""
_DIGEST = (
    "SELECT (SELECT md5(string_agg(a::text, '' ORDER BY aid)) FROM pgbench_accounts a),"
    " (SELECT md5(string_agg(t::text, '' ORDER BY tid)) FROM pgbench_tellers t),"
    " (SELECT count(*) FROM pgbench_history)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command: what it must print alike, and how that is made comparable."""

    name: str
    command: Sequence[str]
    shown: Callable[[str], str] = lambda output: output
    database: str = DATABASE
    variables: Mapping[str, str] | None = None
    fails: bool = False
    """Whether it is to fail."""


def _pgbench(name: str, *options: str) -> list[Step]:
    counted = Step(name=f"pgbench {name}", command=["pgbench", "-n", _SEED, *options], shown=_counts)
    return [counted, Step(name=f"pgbench {name}: the tables", command=["psql", "-X", "-A", "-t", "-c", _DIGEST])]


def _counts(output: str) -> str:
    return "\n".join(_COUNTED.findall(output))


def _listing(output: str) -> str:
    """Of a table of contents, not when it was made."""
    return "\n".join(line for line in output.splitlines() if not line.startswith(";"))


def _dumped(output: str) -> str:
    """Of a dump, not the order of the rows, which concurrent updates leave to chance, nor times, nor random keys."""
    return "\n".join(sorted(_TIMES.sub("TIME", _KEYS.sub("", output)).splitlines()))


def _nothing(_: str) -> str:
    """Of a progress report, or of timings: the exit status says it."""
    return ""


def _restore(form: str, *options: str) -> list[Step]:
    """A dump in this format, which goes into a new database and is dumped from there. A tar has no parallel restore."""
    dump, jobs = f"dump.{form}", [] if form == "t" else ["-j", "2"]
    return [
        Step(name=f"pg_dump -F{form}", command=["pg_dump", f"-F{form}", *options, "-f", dump]),
        Step(name=f"pg_restore -l of -F{form}", command=["pg_restore", "-l", dump], shown=_listing),
        Step(name=f"createdb for -F{form}", command=["createdb", RESTORED], database="postgres"),
        Step(
            name=f"pg_restore -F{form}",
            command=["pg_restore", *jobs, "-d", RESTORED, "--exit-on-error", dump],
            database=RESTORED,
        ),
        Step(name=f"pg_dump of what -F{form} restored", command=["pg_dump"], shown=_dumped, database=RESTORED),
        Step(name=f"dropdb after -F{form}", command=["dropdb", RESTORED], database="postgres"),
    ]


def _backup(name: str, *options: str) -> list[Step]:
    folder = f"backup-{name}"
    return [
        Step(
            name=f"pg_basebackup {name}",
            command=["pg_basebackup", "-D", folder, "-c", "fast", *options],
            shown=_nothing,
        ),
        Step(name=f"pg_verifybackup {name}", command=["pg_verifybackup", "-n", folder]),
    ]


_MODES = ("simple", "extended", "prepared")
_SLOT = ("--slot=programs", "-d", DATABASE)
STEPS: Sequence[Step] = (
    Step(name="pg_isready", command=["pg_isready"]),
    Step(name="psql -l", command=["psql", "-X", "-l"]),
    Step(name="psql -c, twice and in one", command=["psql", "-X", "-c", "SELECT 1; SELECT 2", "-c", "SELECT 3"]),
    Step(
        name="psql -1 that fails",
        command=["psql", "-X", "-1", "-c", "CREATE TABLE gone ()", "-c", "SELECT 1 / 0"],
        fails=True,
    ),
    Step(
        name="psql, its options",
        command=["psql", "-X", "-c", "SHOW work_mem"],
        variables={"PGOPTIONS": "-c work_mem=7MB"},
    ),
    Step(name="pgbench -i", command=["pgbench", "-i", "-q", "-s", "1"], shown=_nothing),
    *(
        step
        for mode in _MODES
        for more in ((), ("-C",))
        for step in _pgbench(" ".join((mode, *more)), "-M", mode, "-c", "4", "-j", "2", "-t", "25", *more)
    ),
    *_pgbench("-S prepared", "-S", "-M", "prepared", "-c", "8", "-t", "50"),
    *_pgbench("-N", "-N", "-c", "4", "-t", "25"),
    *_pgbench("pipeline", "-M", "extended", "-c", "4", "-t", "20", "-f", "pipeline.sql"),
    Step(name="pgbench -i, on the server", command=["pgbench", "-i", "-q", "-I", "dtGvpf"], shown=_nothing),
    *_pgbench("after that", "-c", "2", "-t", "10"),
    Step(name="pg_dump", command=["pg_dump"], shown=_dumped),
    Step(name="pg_dump --inserts", command=["pg_dump", "--inserts"], shown=_dumped),
    Step(name="pg_dumpall", command=["pg_dumpall", "--no-role-passwords"], shown=_dumped, database="postgres"),
    *_restore("c"),
    *_restore("d", "-j", "2"),
    *_restore("t"),
    Step(name="vacuumdb", command=["vacuumdb", "-z", "-j", "2", "--echo", DATABASE]),
    Step(name="reindexdb", command=["reindexdb", "--concurrently", "-t", "pgbench_accounts", DATABASE]),
    Step(name="clusterdb", command=["clusterdb", DATABASE]),
    Step(name="createuser", command=["createuser", "-e", "somebody"], database="postgres"),
    Step(name="dropuser", command=["dropuser", "-e", "somebody"], database="postgres"),
    Step(name="oid2name", command=["oid2name", "-d", DATABASE, "-t", "nosuch"]),
    Step(name="vacuumlo", command=["vacuumlo", "-v", DATABASE]),
    *_backup("plain", "-Fp", "-X", "stream"),
    *_backup("fetch", "-Fp", "-X", "fetch"),
    Step(name="pg_receivewal --create-slot", command=["pg_receivewal", "--create-slot", "--slot=physical"]),
    Step(name="pg_receivewal --drop-slot", command=["pg_receivewal", "--drop-slot", "--slot=physical"]),
    Step(
        name="pg_recvlogical --create-slot", command=["pg_recvlogical", *_SLOT, "--create-slot", "-P", "test_decoding"]
    ),
    Step(
        name="changes to decode",
        command=[
            "psql",
            "-X",
            "-c",
            "CREATE TABLE decoded (n int)",
            "-c",
            "INSERT INTO decoded SELECT generate_series(1, 500)",
        ],
    ),
    Step(
        name="where they end",
        command=["psql", "-X", "-A", "-t", "-o", "end", "-c", "SELECT pg_current_wal_insert_lsn()"],
    ),
    Step(
        name="pg_recvlogical --start",
        command=[
            "pg_recvlogical",
            *_SLOT,
            "--start",
            "-f",
            "-",
            "-o",
            "include-xids=0",
            "-o",
            "skip-empty-xacts=1",
            "--endpos=END",
        ],
    ),
    Step(name="pg_recvlogical --drop-slot", command=["pg_recvlogical", *_SLOT, "--drop-slot"]),
)


def _run(place: Place, way: Way) -> Outcomes:
    (place.scratch / "pipeline.sql").write_text(_PIPELINE)
    found = _psql(place, way)
    for step in STEPS:
        command = [_filled(part, place.scratch / "end") for part in step.command]
        variables = {**way.environment(), "PGDATABASE": step.database, **(step.variables or {})}
        ran = place.run([postgresql_bin() / command[0], *command[1:]], place.scratch, variables)
        found[step.name] = _outcome(step, ran.status, _comparable(ran.output, way))
    return found


def _filled(part: str, end: Path) -> str:
    return part.replace("END", end.read_text().strip()) if part.endswith("=END") else part


def _outcome(step: Step, status: int, output: str) -> Outcome:
    """The exit status itself is compared as well."""
    shown = f"{step.shown(output)}\n(exit status {status})"
    return Outcome(status="passed" if (status != 0) is step.fails else "failed", said=output[-_SAID:], shown=shown)


def _comparable(output: str, way: Way) -> str:
    return re.sub(rf"\b(port\W+|{way.host}:){way.port}\b", r"\1PORT", output)


def _psql(place: Place, way: Way) -> dict[str, Outcome]:
    """The commands of psql, in one session, each with what was printed from its name on to the next one."""
    variables = {**way.environment(), "PGDATABASE": DATABASE, "PGCLIENTENCODING": "UTF8"}
    ran = place.run([postgresql_bin() / "psql", "-X", "-a", "-f", SCRIPT], place.scratch, variables)
    parts = re.split(r"^# (.*)$", _comparable(ran.output, way), flags=re.MULTILINE)
    return {
        f"psql: {name}": Outcome(status="passed", shown=shown)
        for name, shown in zip(parts[1::2], parts[2::2], strict=True)
    }


SUITE = Suite(
    name="programs",
    about="psql's commands, pgbench, pg_dump, pg_restore, pg_basebackup, pg_recvlogical and the rest",
    version="as installed",
    fetch=lambda: (Path(), Path()),
    run=_run,
    databases=(DATABASE, RESTORED, "postgres", "template1"),
    makes=(RESTORED,),
    settings={"wal_level": "logical", "max_wal_senders": "10"},
    replication=True,
)
