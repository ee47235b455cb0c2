"""psql's side of the conversation, and of the ends: what a person at its prompt, or a script, would do with it.

    python -m tests.clients.python.psql_program STATE PSQL

It has no parameters that can be NULL and, before version 18, neither prepared statements nor pipelines of the wire
protocol's own: there it does with SQL what the other clients do with messages.
"""

import os
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO

from tests.clients.python.speaking import hear, say

FLAGS = ["-X", "-A", "-t", "-q", "-F", "\t", "-v", "VERBOSITY=verbose"]
SLOW = "COPY (SELECT repeat('x', 10000), pg_sleep(0.01) FROM generate_series(1, 100000)) TO STDOUT;\n"
PREPARE_BY_SQL = "PREPARE insert AS INSERT INTO t VALUES ($1, $2);\n"
PREPARE = "INSERT INTO t VALUES ($1, $2) \\parse insert\n"
# What psql's own shell command runs has psql as its parent. SIGINT ends the script too, so this comes last.
CTRL_C = "\\! (sleep 0.3; kill -INT $PPID) >/dev/null 2>&1 &\nSELECT pg_sleep(60);\n"


def script(*, pipelines: bool) -> str:
    """The conversation, for psql's standard input."""
    execute = ["\\bind_named insert {} x \\g\n" if pipelines else "EXECUTE insert({}, 'x');\n"][0]
    batch = [f"INSERT INTO t VALUES ({'$1' if pipelines else number})" for number in range(100, 120)]
    together = "".join(f"{text} \\bind {number} \\sendpipeline\n" for number, text in enumerate(batch, 100))
    return "".join([
        "SELECT 'simple', 'simple';\n",
        "\\set text 'it''s Zoë\\\\;'\n",
        "SELECT 'values', concat_ws('|', 41::int8, :'text', 1.5::float8, true, '\\x00ff'::bytea, 'NULL');\n",
        "CREATE TABLE t (n int PRIMARY KEY, x text);\n",
        PREPARE if pipelines else PREPARE_BY_SQL,
        *[execute.format(number) for number in (1, 2, 3)],
        "SELECT 'prepared', count(*) FROM t;\n",
        "BEGIN;\nINSERT INTO t VALUES (4);\nINSERT INTO t VALUES (1);\nROLLBACK;\n",
        "SELECT 'error', :'LAST_ERROR_SQLSTATE', count(*) FROM t;\n",
        f"\\startpipeline\n{together}\\endpipeline\n" if pipelines else " \\; ".join(batch) + ";\n",
        "SELECT 'batch', count(*) FROM t;\n",
        "\\copy t (n) FROM 'in'\n",
        "\\copy (SELECT n FROM t WHERE n >= 1000 ORDER BY n) TO 'out'\n",
        "LISTEN heard;\nNOTIFY heard, 'by me';\n",
        "SELECT repeat('x', 1000) FROM generate_series(1, 20000) \\g big\n",
        CTRL_C,
    ])  # fmt: skip


def converse(psql: str) -> None:
    """The whole conversation."""
    version = subprocess.run([psql, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\) (\d+)", version)
    assert found is not None
    with tempfile.TemporaryDirectory(prefix="curfew-psql-") as folder:
        place = Path(folder)
        (place / "in").write_text("".join(f"{number}\n" for number in range(1000, 2000)))
        done = subprocess.run(
            [psql, *FLAGS, "-f", "-"], input=script(pipelines=int(found[1]) >= 18), cwd=place, env=environment(),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        for line in done.stdout.splitlines():
            heard = re.match(r'Asynchronous notification "heard" with payload "(.*)" received', line)
            say(*(["notify", heard[1]] if heard else line.split("\t")))
        say("copy", str((place / "out").stat().st_size))
        say("cancel", *re.findall(r"ERROR:  (57014):", done.stderr))
        say("big", str((place / "big").read_text().count("x")))
    sys.stderr.write(done.stderr)


def environment() -> dict[str, str]:
    """This process's, with the token."""
    say("loaded")
    return {**os.environ, "PGPASSWORD": hear()}


def feed(state: str, sink: IO[str], ended: threading.Event) -> None:
    """What a person types, or a script has, for this state."""
    if state == "idle":
        say("ready")
        hear()
        sink.write("SELECT 1;\n")
    elif state == "query":
        say("ready")
        sink.write("SELECT pg_sleep(60);\n")
    elif state == "copy-out":
        sink.write(SLOW)
    else:
        sink.write("CREATE TEMP TABLE t (x text);\nCOPY t FROM STDIN;\n")
        say("ready")
        while not ended.wait(0.01):
            sink.write("x\n" * 10_000)
            sink.flush()
    sink.flush()


def end(state: str, psql: str) -> None:
    """Come into the state, and say what psql says when it ends."""
    command = [psql, *FLAGS[:-2], "-f", "-"]
    pipe, ended = subprocess.PIPE, threading.Event()
    with subprocess.Popen(command, env=environment(), stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        threading.Thread(target=drain, args=(process.stdout, state), daemon=True).start()
        threading.Thread(target=feed_until, args=(state, process.stdin, ended), daemon=True).start()
        said = process.stderr.read()
        ended.set()
        say("said", "", "", re.sub(r"^psql:<stdin>:\d+: ", "", said, flags=re.MULTILINE), "", "")
        sys.stdout.flush()
        os._exit(0)  # A pipe that broke under our own hands is not what the person sees.


def feed_until(state: str, sink: IO[str], ended: threading.Event) -> None:
    """As `feed`; psql may have ended already."""
    try:
        feed(state, sink, ended)
    except BrokenPipeError:
        ended.set()


def drain(source: IO[str], state: str) -> None:
    """Read what psql prints, to its end."""
    if state == "copy-out":
        source.read(1)
        say("ready")
    while source.read(65_536):
        pass


if __name__ == "__main__":
    converse(sys.argv[2]) if sys.argv[1] == "converse" else end(*sys.argv[1:3])
