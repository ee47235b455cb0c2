"""The oracle in the suite: every case against the installed PostgreSQL; and that it sees what it is there to see."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.harness.binaries import postgresql_bin
from tests.harness.wire import Message
from tests.oracle import __main__ as command
from tests.oracle import differences
from tests.oracle.cases import CASES
from tests.oracle.lines import Line, line_of, remark
from tests.oracle.runner import Result, judged, run_version

LISTED = "length-of-0"


@pytest.fixture(scope="module")
def results() -> Mapping[str, Result]:
    """Every case, said once on both ways."""
    return {one.case: one for one in run_version(postgresql_bin(), CASES.values(), lambda _: None)}


@pytest.mark.parametrize("case", CASES)
def test_the_same_answers(results: Mapping[str, Result], case: str) -> None:
    """Through Curfew as from PostgreSQL, or the reviewed difference and no other."""
    assert results[case].passed, command.failure(results[case])


def test_the_script_is_long_enough() -> None:
    """At least 60 cases, and the list of what may differ is a small part of them."""
    listed = {case for one in differences.REVIEWED for case in one.cases}
    assert len(CASES) >= 60
    assert len(listed) < len(CASES) / 6


def test_the_list_names_cases_that_there_are() -> None:
    """Each once for a version, with a reason that is a sentence."""
    for one in differences.REVIEWED:
        assert set(one.cases) <= set(CASES)
        assert one.reason.endswith(".")
    for version in range(14, 19):
        here = [case for one in differences.REVIEWED if version in one.versions for case in one.cases]
        assert len(here) == len(set(here))


def error(*fields: str) -> Line:
    """The line of an ErrorResponse."""
    return line_of(Message("E", b"".join(field.encode() + b"\0" for field in fields) + b"\0"))


THEIRS = ("SERROR", "VERROR", "C42601", "Msyntax error", "Rscanner_yyerror")


@pytest.mark.parametrize(
    ("direct", "curfew", "differs"),
    [
        (THEIRS, THEIRS, ()),
        (THEIRS, ("SERROR", "VERROR", "C42601", "Mno"), ()),
        (THEIRS, ("SERROR", "VERROR", "C42602", "Mno"), ("- E ERROR 42601", "+ E ERROR 42602")),
        (THEIRS, ("SFATAL", "VFATAL", "C42601", "Mno"), ("- E ERROR 42601", "+ E FATAL 42601")),
    ],
)
def test_errors_are_compared(direct: tuple[str, ...], curfew: tuple[str, ...], differs: tuple[str, ...]) -> None:
    """By every field; by severity and SQLSTATE where Curfew says it in its own words."""
    assert judged("empty-query", 15, [error(*direct)], [error(*curfew)]).differs == differs


def test_a_field_that_is_lost_is_seen() -> None:
    """PostgreSQL's own error without its hint, or with another text, is not the same error."""
    other = ("SERROR", "VERROR", "C42601", "Mtax error", "Rscanner_yyerror")
    assert not judged("empty-query", 15, [error(*THEIRS)], [error(*other)]).same


READY, ROW = line_of(Message("Z", b"I")), line_of(Message("D", b"\0\1\0\0\0\1x"))


@pytest.mark.parametrize(
    "curfew",
    [[ROW], [READY, ROW], [ROW, ROW, READY], [ROW, line_of(Message("Z", b"T"))], [ROW, READY, remark("closed")]],
    ids=["one less", "another order", "one more", "another state", "closed"],
)
def test_answers_are_compared(curfew: list[Line]) -> None:
    """Message by message."""
    assert not judged("empty-query", 15, [ROW, READY], curfew).passed


def test_long_rows_are_compared_to_their_last_byte() -> None:
    """What is shown is cut, what is compared is not."""
    rows = [line_of(Message("D", b"\0\1" + (5_000).to_bytes(4) + b"x" * 4_999 + end)) for end in (b"a", b"b")]
    assert not judged("empty-query", 15, rows[:1], rows[1:]).same
    assert len(rows[0].text) < 200


def test_pids_and_keys_are_not_compared() -> None:
    """They cannot be alike; the length of the key is."""
    keys = [line_of(Message("K", key)) for key in (b"\0\0\0\1abcd", b"\0\0\0\2efgh", b"\0\0\0\2" + bytes(32))]
    rows = [line_of(Message("D", b"\0\1\0\0\0\2" + pid), [int(pid)]) for pid in (b"17", b"18")]
    assert keys[0].matches(keys[1])
    assert not keys[0].matches(keys[2])
    assert rows[0].matches(rows[1])


def test_the_list_is_exact() -> None:
    """A listed difference that did not occur fails, and so does another one than the listed."""
    why, closed = error("SFATAL", "VFATAL", "C08P01", "Mno"), remark("closed")
    assert judged(LISTED, 15, [closed], [why, closed]).passed
    assert not judged(LISTED, 15, [closed], [closed]).passed
    assert not judged(LISTED, 15, [closed], [why, ROW, closed]).passed


@pytest.mark.parametrize(
    ("differs", "listed", "agrees"),
    [
        (("- a", "+ b"), ("- a", "+ b"), True),
        (("- a",), ("- a", "+ b"), False),
        (("- a", "+ b"), ("- a",), False),
        (("- a", "- b", "- c", "+ d"), ("- a", "...", "+ d"), True),
        (("- a", "+ d"), ("- a", "...", "+ d"), True),
        (("- a", "- b"), ("- a", "...", "+ d"), False),
        (("- a long one",), ("- a long...",), True),
        (("- another",), ("- a long...",), False),
    ],
)
def test_the_form_of_the_list(differs: tuple[str, ...], listed: tuple[str, ...], *, agrees: bool) -> None:
    """`...` stands for the rest of a line, or for any lines."""
    assert differences.agrees(differs, listed) is agrees


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One case that is the same and one that is listed: summary, JSON (DESIGN.md section 7), status."""
    file = tmp_path / "oracle.json"
    only = ["--only", "empty-query", "--only", LISTED]
    assert command.main(["--postgres", str(postgresql_bin()), "--json", str(file), *only]) == 0
    said = capsys.readouterr().out
    assert "2 cases, 1 the same (0 of them an error" in said
    assert f"{LISTED} (on" in said
    written = {one["case"]: one for one in json.loads(file.read_text())}
    assert (written["empty-query"]["same"], written["empty-query"]["reason"]) == (True, None)
    assert written[LISTED]["same"] is False
    assert "impossible length" in written[LISTED]["reason"]


def test_the_command_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the list does not have what differs."""
    monkeypatch.setattr(differences, "REVIEWED", ())
    assert command.main(["--postgres", str(postgresql_bin()), "--only", LISTED]) == 1
    assert f"FAILED {LISTED}" in capsys.readouterr().out


def test_the_command_lists_its_cases(capsys: pytest.CaptureFixture[str]) -> None:
    """Each with what it is about; nothing is started."""
    assert command.main(["--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(CASES)


@pytest.mark.parametrize("arguments", [["--only", "nothing"], ["--postgres", "/nowhere"]])
def test_the_command_refuses_what_there_is_not(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A case or a folder, before anything starts."""
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == 2
    assert "usage: python -m tests.oracle" in capsys.readouterr().err
