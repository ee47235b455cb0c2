"""Sessions in the formats of others, as a person at a shell gets them."""

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.contract.record import AuthRefused, Chain, SessionReaped
from tests.integration.client.person import WITHIN_S, Person, command
from tests.integration.client.service import Edge
from tests.integration.client.test_evidence import EVIL, MS, asked, end, new_session, start, story
from tests.unit.control.evidence.exports.reading import Reader
from tests.unit.control.evidence.exports.schemas import ecs_faults, ocsf_faults

Somebody = Callable[[str], Person]
CHROMIUM = shutil.which("chromium")


@pytest.fixture
def session(edge: Edge) -> str:
    """The id of a session with a story."""
    name = new_session()
    edge.send(name, *story())
    return name


def test_a_file_is_new_and_its_owners_alone(somebody: Somebody, session: str, tmp_path: Path) -> None:
    """It is never overwritten; and where it cannot be written, or the session is not to be had, nothing is left."""
    eve, path = somebody("eve"), tmp_path / "session.html"
    said = eve.ok("export", session, "--format", "html", "--output", str(path))
    assert said == f"exported 1 session as html to {path}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    assert "is never overwritten" in eve.refused("export", session, "--format", "jsonl", "--output", str(path))
    assert path.read_bytes() == before
    gone = tmp_path / "none" / "file"
    assert "cannot write" in eve.refused("export", session, "--format", "jsonl", "--output", str(gone))
    theirs = tmp_path / "theirs"
    refused = somebody("carol").refused("export", session, "--format", "jsonl", "--output", str(theirs))
    assert "takes the role auditor" in refused
    assert not theirs.exists()


def test_many_sessions_are_one_stream_for_a_siem(somebody: Somebody, edge: Edge, session: str, tmp_path: Path) -> None:
    """Each line stands alone and names its session; refused connections and what a proxy ended for another one too.

    Such a record is a chain of its own. A full bundle lacked it once, so that `verify` missed a number of the log.
    """
    refused, reaping = new_session(), Chain(new_session())
    edge.send(refused, AuthRefused(refusal="expired", user="x", database="orders", address="10.6.6.6"))
    ended = SessionReaped(
        reaped=new_session(), left_by="other", target="orders", backend_pid=1, backend_start="", decided_at=1, found=0
    )
    edge.post(reaping.seal_signed(ended, edge.key) + b"\n").raise_for_status()
    eve = somebody("eve")
    events = [json.loads(line) for line in eve.ok("export", "--all", "--format", "ocsf").splitlines()]
    assert [fault for event in events for fault in ocsf_faults(event)] == []
    assert {session, refused, reaping.session} <= {event["metadata"]["correlation_uid"] for event in events}
    path = tmp_path / "events"
    eve.ok("export", session, refused, "--format", "ecs", "--output", str(path))
    documents = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [fault for document in documents for fault in ecs_faults(document)] == []
    assert [one["curfew"]["session"]["id"] for one in documents] == [session] * 7 + [refused]


def test_records_are_what_verify_takes(somebody: Somebody, edge: Edge, tmp_path: Path) -> None:
    """Byte for byte."""
    name, path = new_session(), tmp_path / "records"
    lines = edge.send(name, *story())
    eve = somebody("eve")
    eve.ok("export", name, "--format", "records", "--output", str(path))
    assert path.read_bytes() == b"".join(line + b"\n" for line in lines)
    assert eve.ok("verify", str(path), "--public-key", edge.public_key).startswith("ok: ")


def test_since_takes_what_was_there_at_that_time_or_later(somebody: Somebody, edge: Edge) -> None:
    """A session that was over by then is left out; one that ended after it is not, however early it began."""
    hour = 3_600_000 * MS
    long_ago, over, open_one = new_session(), new_session(), new_session()
    edge.send(over, start(), end(), at=1_000 * hour)
    edge.send(long_ago, start(), end(), at=1_000 * hour, step_ns=10 * hour)
    edge.send(open_one, start(), at=1_000 * hour)
    eve = somebody("eve")

    def taken(since: str) -> set[str]:
        lines = eve.ok("export", "--since", since, "--format", "jsonl").splitlines()
        return {json.loads(line)["session"] for line in lines} & {over, long_ago, open_one}

    assert taken("1970-02-11T18:00:00Z") == {long_ago, open_one}
    assert taken("1970-02-11T15:00Z") == {over, long_ago, open_one}
    assert taken("30d") == {open_one}


def test_a_terminal_gets_nothing_that_could_act_on_it(somebody: Somebody, session: str) -> None:
    """Records are as they were made, so they do not go there; what is written here is harmless."""
    eve = somebody("eve")
    code, screen = eve.on_terminal("export", session, "--format", "records")
    assert code == 1
    assert "name a file with --output, or pipe it" in screen
    assert "SELECT" not in screen
    code, screen = eve.on_terminal("export", session, "--format", "jsonl")
    assert code == 0
    assert "SELECT" in screen
    assert screen.replace("\r\n", "").isprintable()


def test_a_reader_that_stops_reading_is_no_fault(somebody: Somebody, edge: Edge) -> None:
    """As `head` does: no traceback, no complaint."""
    name = new_session()
    edge.send(name, start(), *(asked(number, "x" * 60_000) for number in range(1, 20)))
    eve = somebody("eve")
    process = subprocess.Popen(
        command("export", name, "--format", "jsonl"),
        env=eve.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b'{"session":')
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(WITHIN_S) == 1


def browsed(document: Path, folder: Path) -> tuple[Reader, str]:
    """The document as Chromium has it when all is loaded and run, and what Chromium said of it."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
            *(f"--user-data-dir={folder}", "--enable-logging=stderr", "--virtual-time-budget=2000", "--dump-dom"),
            document.as_uri(),
        ],
        capture_output=True,
        env=os.environ | {"HOME": str(folder)},
        timeout=WITHIN_S,
        check=True,
    )
    return Reader(done.stdout.decode()), done.stderr.decode(errors="replace")


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here (Debian: apt-get install chromium)")
def test_a_browser_shows_hostile_sql_as_text_and_runs_nothing(somebody: Somebody, edge: Edge, tmp_path: Path) -> None:
    """In a real one; and where a script were in the document all the same, its policy keeps it from running."""
    name, path = new_session(), tmp_path / "session.html"
    hostile = "SELECT '</pre></style><script>document.title = 1</script><img src=x onerror=document.title=1>'"
    edge.send(name, start(), asked(1, hostile), asked(2, EVIL), end())
    somebody("eve").ok("export", name, "--format", "html", "--output", str(path))
    shown, said = browsed(path, tmp_path / "first")
    assert shown.texts["pre"][0] == hostile
    assert "script" not in shown.tags
    assert shown.texts["title"] == [f"Session {name}"]
    assert "Content Security Policy" not in said
    forged = tmp_path / "forged.html"
    script = "<script>document.title = 'ran'</script><style>p { color: red }</style></body>"
    forged.write_text(path.read_text().replace("</body>", script))
    shown, said = browsed(forged, tmp_path / "second")
    assert "script" in shown.tags
    assert shown.texts["title"] == [f"Session {name}"]
    assert said.count("violates the following Content Security Policy directive") == 2
