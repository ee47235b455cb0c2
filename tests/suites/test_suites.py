"""The suites in short: some of asyncpg's tests on both ways, and that a difference is seen, explained or told."""

import base64
import hashlib
import importlib.metadata
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from proxy.contract.record import StatementStart
from tests.harness.digest import Heard, Tap
from tests.harness.wire import TERMINATE
from tests.harness.witness import Logged, Recorded, text_of
from tests.suites import differences, sources
from tests.suites.__main__ import report, table
from tests.suites.catalog import SUITES, asyncpg
from tests.suites.differences import Reviewed
from tests.suites.evidence import BYTES, Evidence, alike, unlogged
from tests.suites.legs import Legs, hold
from tests.suites.outcomes import Outcome, Outcomes, Status, compare, read_junit
from tests.suites.runner import Result, evidence_in, judge, run_suite
from tests.suites.sources import CannotFetchError, check, made
from tests.suites.stand import STATEMENT_LOG

pytestmark = pytest.mark.timeout(300)
"""The one that comes first waits for the suite, which some servers share with a lot else."""
FILES = tuple(f"tests/test_{name}.py" for name in ("cancellation", "copy", "execute", "prepare"))
PART = "not large_rows and not lifetime and not timeout and not cancellation_01"
"""Without what takes long, and without a test that was seen to fail once, on a machine with five times the work that it
can do, and not in 3,000 cancels since: `python -m tests.suites asyncpg` has it."""
WHOLE = Evidence(sessions=1, refused=0, statements=2, records=4, executed=2, faults=())


def outcomes(**statuses: Status) -> Outcomes:
    """Outcomes by name."""
    return {
        name: Outcome(status=status, said="" if status == "passed" else f"of {name}")
        for name, status in statuses.items()
    }


@pytest.fixture(scope="module")
def in_short(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """What came of a part of asyncpg's own tests on both ways, and the folder with what Curfew recorded of it."""
    try:
        source = asyncpg.SDIST.unpacked()
    except CannotFetchError as error:
        pytest.skip(f"the registry does not give asyncpg's source distribution: {error}")
    assert importlib.metadata.version("asyncpg").startswith("0.32."), "the wheel and its tests go together"
    short = replace(
        SUITES["asyncpg"],
        fetch=lambda: (source, Path(sys.executable)),
        run=lambda place, way: asyncpg.run(place, way, *FILES, "-k", PART),
    )
    folder = tmp_path_factory.mktemp("suite")
    return run_suite(short, folder, lambda _: None), folder / "curfew"


def test_asyncpg_in_short(in_short: tuple[Result, Path]) -> None:
    """What asyncpg's own tests say of cancelling, COPY and preparing is the same through Curfew as direct."""
    result, _ = in_short
    assert result.passed, report(result)
    assert sum(one.status == "passed" for one in result.curfew.values()) > 70
    assert result.evidence.sessions >= 70
    assert result.evidence.executed > 100


def test_an_edited_record_is_seen(in_short: tuple[Result, Path], tmp_path: Path) -> None:
    """A statement of the journal is not the one that it was."""
    shutil.copytree(in_short[1], tmp_path, dirs_exist_ok=True)
    segment = max((tmp_path / "state" / "journal").glob("*.ndjson"))
    segment.write_bytes(segment.read_bytes().replace(b"SELECT", b"select", 1))
    assert any("changed" in fault for fault in evidence_in(tmp_path).faults)


def test_a_statement_without_a_record_is_seen(in_short: tuple[Result, Path], tmp_path: Path) -> None:
    """PostgreSQL's log has one more of a session than the journal."""
    shutil.copytree(in_short[1], tmp_path, dirs_exist_ok=True)
    log = tmp_path / STATEMENT_LOG
    whole = re.compile(r'^.*"postgres","postgres",\d+,"127\..*"statement: [^"]*",.*$', re.MULTILINE)
    last = whole.findall(log.read_text())[-1]
    log.write_text(f"{log.read_text()}{last}\n")
    (fault,) = evidence_in(tmp_path).faults
    assert "ran this unrecorded: " in fault


def test_a_statement_on_record_alone_is_seen(in_short: tuple[Result, Path], tmp_path: Path) -> None:
    """PostgreSQL's log has one less of a session than the journal."""
    shutil.copytree(in_short[1], tmp_path, dirs_exist_ok=True)
    log = tmp_path / STATEMENT_LOG
    whole = re.compile(r'^.*"postgres","postgres",\d+,"127\..*"statement: [^"]*",.*\n', re.MULTILINE)
    log.write_text(whole.sub("", log.read_text(), count=1))
    (fault,) = evidence_in(tmp_path).faults
    assert "knows nothing of this on record: " in fault


def test_what_failed_before_it_was_logged() -> None:
    """Is not taken for the same text behind it, which was."""
    failed = Recorded(kind="execute", text="SELECT 1 / $1", sqlstate="22012")
    well = replace(failed, sqlstate=None, tags=("SELECT 1",))
    logged = Logged(kind="execute", text="SELECT 1 / $1")
    assert [*unlogged([logged], [failed, well])] == []
    assert [*unlogged([logged], [failed, well, well])] == [well]


@pytest.mark.parametrize(("text", "same"), [("SELECT 'ä€ Zoë'", True), ("SELECT 'ä€ Zo'", True), ("SELECT 1", False)])
def test_a_text_of_another_encoding(text: str, same: bool) -> None:  # noqa: FBT001 a case of the table
    """PostgreSQL's log has the server's encoding, a record the client's bytes: what is ASCII is compared."""
    sent = base64.b64encode("SELECT 'ä€ Zoë'".encode("iso-8859-15")).decode()
    began = StatementStart(
        v=1,
        session="s",
        seq=1,
        at=1,
        prev="",
        statement=1,
        kind="query",
        sql="",
        sql_base64=sent,
        state="I",
        transaction=1,
    )
    recorded = Recorded(kind="query", text=text_of(began, BYTES))
    assert alike(Logged(kind="query", text=text), recorded) is same


def test_what_was_run_on_one_way_only_is_a_difference() -> None:
    """So is a test that passes, fails or is skipped on one way alone; what is alike is none."""
    direct = outcomes(a="passed", b="passed", c="skipped", d="failed", e="passed")
    curfew = outcomes(a="passed", b="failed", c="passed", d="failed", f="passed")
    assert {one.test: one.change for one in compare(direct, curfew)} == {
        "b": "passed -> failed",
        "c": "skipped -> passed",
        "e": "passed -> missing",
        "f": "missing -> passed",
    }


def test_what_is_shown_is_compared() -> None:
    """Two outputs that differ are a difference where both passed, too, and the lines are told."""
    direct = {"a": Outcome(status="passed", shown="1\n2\n3"), "b": Outcome(status="failed", said="at 12:00")}
    curfew = {"a": Outcome(status="passed", shown="1\n4\n3"), "b": Outcome(status="failed", said="at 12:01")}
    (one,) = compare(direct, curfew)
    assert one.change == "passed -> passed otherwise"
    assert [line for line in one.lines if not line.startswith("@@")] == ["-2", "+4"]


ENTRY = Reviewed(suites=("asyncpg",), tests=("b*",), change="passed -> failed", says="of b", reason="It is so.")


def judged(entry: Reviewed, direct: Outcomes, curfew: Outcomes, monkeypatch: pytest.MonkeyPatch) -> Result:
    """What a run is judged to be with `entry` as the whole reviewed list."""
    monkeypatch.setattr(differences, "REVIEWED", (entry,))
    return judge(SUITES["asyncpg"], direct, curfew, WHOLE)


@pytest.mark.parametrize(
    ("entry", "direct", "curfew", "passed"),
    [
        (ENTRY, {"b1": "passed"}, {"b1": "failed"}, True),
        (replace(ENTRY, says="another text"), {"b1": "passed"}, {"b1": "failed"}, False),
        (ENTRY, {"b1": "passed"}, {"b1": "missing"}, False),
        (ENTRY, {"b1": "failed", "a": "passed"}, {"b1": "passed", "a": "passed"}, False),
        (replace(ENTRY, sometimes=True), {"b1": "failed", "a": "passed"}, {"b1": "passed", "a": "passed"}, True),
        (replace(ENTRY, sometimes=True), {"b1": "passed"}, {"b1": "passed"}, True),
        (ENTRY, {"b1": "passed"}, {"b1": "passed"}, False),
        (ENTRY, {"a": "passed"}, {"a": "passed"}, True),
        (ENTRY, {"a": "failed"}, {"a": "failed"}, False),
    ],
    ids=[
        "listed", "another text", "another change", "the other way round", "sometimes the other way round",
        "sometimes not", "no longer so", "not run", "nothing passed",
    ],
)  # fmt: skip
def test_the_reviewed_list(
    entry: Reviewed,
    direct: Mapping[str, Status],
    curfew: Mapping[str, Status],
    passed: bool,  # noqa: FBT001 a case of the table
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A difference is excused where exactly it is listed; an entry that no longer shows is a failure, too."""
    assert judged(entry, outcomes(**direct), outcomes(**curfew), monkeypatch).passed is passed


def test_a_broken_record_fails_a_suite() -> None:
    """However alike the ways are."""
    alike = outcomes(a="passed")
    assert judge(SUITES["django"], alike, alike, WHOLE).passed
    assert not judge(SUITES["django"], alike, alike, replace(WHOLE, faults=("session s has no end",))).passed
    assert not judge(SUITES["django"], alike, alike, replace(WHOLE, legs=Legs(different=("a byte",)))).passed


def heard(client: bytes, server: bytes) -> Tap:
    """A tap on a leg of one session, on which this was said."""
    one = Heard()
    one.pid = 7
    one.client.take(client)
    one.server.take(server)
    return cast("Tap", SimpleNamespace(sessions=[one]))


@pytest.mark.parametrize(
    ("client", "upstream", "expected"),
    [
        ((b"ask", b"answer"), (b"ask", b"answer"), (1, 0, 0)),
        ((b"ask", b"answer"), (b"ask" + TERMINATE, b"answer"), (1, 0, 0)),
        ((b"ask", b"ans"), (b"ask" + TERMINATE, b"answer"), (0, 1, 0)),
        ((b"ask more", b"ans"), (b"ask", b"answer"), (0, 1, 0)),
        ((b"ask", b"answer"), (b"ask", b"ans"), (0, 0, 1)),
        ((b"ask", b"answer"), (b"ask more", b"answer"), (0, 0, 1)),
        ((b"ask", b"answer"), (b"oops", b"other!"), (0, 0, 2)),
        ((b"ask", b"bnswer"), (b"as", b"answer more"), (0, 0, 1)),
    ],
)
def test_a_byte_that_changed_is_seen(
    client: tuple[bytes, bytes], upstream: tuple[bytes, bytes], expected: tuple[int, int, int]
) -> None:
    """A session that was cut is the beginning of what was said, and counted apart."""
    found = hold(heard(*client), heard(*upstream))
    assert (found.same, found.cut, len(found.different)) == expected


def test_the_report_tells_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, with what was said; what was reviewed with its reason, and in the table's row."""
    result = judged(ENTRY, outcomes(a="passed", b1="passed"), outcomes(a="failed", b1="failed"), monkeypatch)
    shown = report(result)
    assert "UNREVIEWED a: passed -> failed" in shown
    assert "of a" in shown
    assert "It is so." in shown
    assert "| 2 | 0 | 1 reviewed, **1 not reviewed** | 2 |" in table([result])


def test_the_list_names_suites_that_there_are() -> None:
    """And gives each difference a reason that is a sentence."""
    for one in differences.REVIEWED:
        assert set(one.suites) <= set(SUITES)
        assert one.reason.endswith(".")


JUNIT = """<testsuites><testsuite>
<testcase classname="m.T" name="good"/>
<testcase classname="m.T" name="bad"><failure message="no">at line 3</failure></testcase>
<testcase classname="m.T" name="torn"/><testcase classname="m.T" name="torn"><error message="left over"/></testcase>
<testcase classname="m.T" name="not here"><skipped message="no such thing"/></testcase>
</testsuite></testsuites>"""


def test_junit_is_read(tmp_path: Path) -> None:
    """Of a test that is there twice, with its teardown, the worst counts."""
    (tmp_path / "junit.xml").write_text(JUNIT)
    found = read_junit(tmp_path.glob("*.xml"))
    assert {name: one.status for name, one in found.items()} == {
        "m.T::good": "passed",
        "m.T::bad": "failed",
        "m.T::torn": "failed",
        "m.T::not here": "skipped",
    }
    assert found["m.T::bad"].said == "no\nat line 3"


def test_both_ends_of_a_long_text_are_kept(tmp_path: Path) -> None:
    """What matters is first in JUnit's, and last in pytest's."""
    long = f"<failure message='first'>{'x' * 10_000} last</failure>"
    (tmp_path / "junit.xml").write_text(f"<testsuite><testcase classname='m' name='t'>{long}</testcase></testsuite>")
    said = read_junit(tmp_path.glob("*.xml"))["m::t"].said
    assert said.startswith("first\nxxx")
    assert said.endswith("xxx last")
    assert len(said) < 4_000


def test_only_what_was_pinned_is_taken(tmp_path: Path) -> None:
    """A file with another hash is refused."""
    file = tmp_path / "file"
    file.write_bytes(b"as reviewed")
    check(file, hashlib.sha256(b"as reviewed").hexdigest())
    with pytest.raises(CannotFetchError, match="not what was reviewed"):
        check(file, hashlib.sha256(b"as it was").hexdigest())


def test_what_was_not_made_whole_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that broke off leaves nothing that the next run would take for it."""
    monkeypatch.setattr(sources, "CACHE", tmp_path)

    def half(folder: Path) -> None:
        (folder / "half").touch()
        raise CannotFetchError("the registry went away")

    with pytest.raises(CannotFetchError):
        made("thing", half)
    place = made("thing", lambda folder: (folder / "whole").touch())
    assert [path.name for path in place.iterdir() if path.name != "complete"] == ["whole"]
    assert made("thing", half) == place
