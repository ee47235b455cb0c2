"""The table of the protocol's rows cannot rot: each is there once, with tests that exist, or with a reason."""

import re
from pathlib import Path

import pytest

from tests.oracle.cases import CASES

TESTS = Path(__file__).resolve().parents[1]
PROXY = TESTS.parent / "proxy"
ORACLE = "oracle/test_oracle.py"
ROWS = [
    (
        int(row[1]),
        re.findall(r"`([\w/]+\.py)`", row[2]),
        re.findall(r"`([\w/]+\.py)(?:::(\w+))?(?:\[([\w.-]+)\])?`", row[3]),
        row[4].strip(),
    )
    for row in re.finditer(
        r"^\| (\d+) [^|]+\|([^|]*)\|([^|]*)\|([^|]*)\|$", (TESTS / "ROWS.md").read_text(), re.MULTILINE
    )
]


def test_every_row_is_there() -> None:
    """Those of PROTOCOL.md, section 1, once each and in its order."""
    assert [row[0] for row in ROWS] == list(range(1, 101))


def test_every_line_is_a_row() -> None:
    """What the table has in it is read, not passed over for its form."""
    lines = [line for line in (TESTS / "ROWS.md").read_text().splitlines() if re.match(r"\| *\d", line)]
    assert len(lines) == len(ROWS)
    for (number, where, tests, _), line in zip(ROWS, lines, strict=True):
        assert line.count(".py") == len(where) + len(tests), f"row {number}"


@pytest.mark.parametrize(("number", "where", "tests", "limit"), ROWS, ids=[f"row {row[0]}" for row in ROWS])
def test_it_names_what_exists(number: int, where: list[str], tests: list[tuple[str, str, str]], limit: str) -> None:
    """Files of the proxy, tests, and cases of the oracle. Where there is no test, a limit says why."""
    assert tests or limit, f"row {number} has neither a test nor a reason"
    for file in where:
        assert (PROXY / file).is_file(), file
    for file, name, case in tests:
        text = (TESTS / file).read_text()
        assert not name or re.search(rf"^ *(async )?def {name}\(", text, re.MULTILINE), f"{file} has no {name}"
        assert not case or (file == ORACLE and case in CASES), f"the oracle has no {case}"
