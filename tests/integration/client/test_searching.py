"""Searching statements with the command, over records that a real service has indexed by itself."""

import json
from collections.abc import Callable

import pytest

from control.harmless import line
from proxy.contract.record import StatementEnd
from tests.harness.waiting import eventually_sync
from tests.integration.client.person import Person
from tests.integration.client.service import Edge
from tests.integration.client.test_evidence import asked, new_session, start

Somebody = Callable[[str], Person]
DEADLY = "SELECT " + "+".join(["1"] * 60_000)
EVIL = "DELETE FROM payroll /* \x1b]0;owned\x07\x1b[2J\u202e\n   0:00.003  #1     SUCCESS */"


@pytest.fixture
def session(edge: Edge, somebody: Somebody) -> str:
    """A session with a hostile statement, and one that kills the parser."""
    name = new_session()
    said = [
        asked(1, EVIL),
        StatementEnd(statement=1, duration=7_000_000, rows=4_711, tags=["DELETE 4711"], state="I"),
        asked(2, DEADLY),
        StatementEnd(statement=2, duration=1_000, sqlstate="54001", message="stack depth limit exceeded", state="I"),
    ]
    edge.send(name, start("bruno"), *said)
    auditor = somebody("eve")
    found = ("search", "--session", name, "--json", "--label", "crashed")
    eventually_sync(lambda: json.loads(auditor.ok(*found))["items"], within=60)
    return name


def test_what_is_found(somebody: Somebody, session: str) -> None:
    """By several things at once; on one line, harmless, with what a replay wants. The parser's death is a label."""
    auditor = somebody("eve")
    narrow = (
        "--written",
        "Payroll",
        "--class",
        "delete",
        "--rows-over",
        "4000",
        "--since",
        "1970-01-01",
        "--until",
        "now",
    )
    shown = auditor.ok("search", "DELETE FROM", "--person", "bruno", "--session", session, *narrow)
    head, row = shown.splitlines()
    assert head.split() == ["SESSION", "NUMBER", "AT", "PERSON", "DATABASE", "CLASS", "ROWS", "TIME", "ERROR", "SQL"]
    assert row.split()[:2] == [session, "#1"]
    for part in ("bruno", "orders/shop", "DELETE", "4711", "7 ms", "DELETE FROM payroll /* \\x1b]0;owned\\x07"):
        assert part in row
    assert line(shown.replace("\n", "")) == shown.replace("\n", "")
    failed = auditor.ok("search", "--session", session, "--sqlstate", "54001")
    assert "- (crashed)" in failed
    assert "(and 119806 more)" in failed
    assert "#1" in auditor.ok("replay", session)


def test_json(somebody: Somebody, session: str) -> None:
    """As the API has it, exactly."""
    found = json.loads(somebody("eve").ok("search", "--session", session, "--table", "payroll", "--json"))
    (item,) = found["items"]
    assert (item["sql"], item["statement"], found["next"]) == (EVIL, 1, None)
    assert item["tables"] == [{"name": "payroll", "written": True}]


def test_in_pages(somebody: Somebody, session: str) -> None:
    """There are more, and it says so."""
    done = somebody("eve").run("search", "--session", session, "--limit", "1")
    assert "#2" in done.stdout
    assert "#1" not in done.stdout.replace("#2", "")
    assert "there are more than these 1" in done.stderr


@pytest.mark.usefixtures("session")
def test_who_may_not(somebody: Somebody) -> None:
    """An approver finds nothing of others', and is not told that there is something."""
    done = somebody("carol").run("search", "payroll")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no such statements" in done.stderr


def test_what_cannot_be_asked(somebody: Somebody) -> None:
    """In words, before or after it was sent."""
    auditor = somebody("eve")
    assert "text: must have 3 to 1000 characters" in auditor.refused("search", "ab")
    done = auditor.run("search", "--since", "tomorrow")
    assert (done.returncode, "is no time" in done.stderr) == (2, True)
