"""The table of threats cannot rot: each is there, each has a test or a limit, and each test exists."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
ROWS = {
    row[1]: (re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", row[2]), row[3].strip())
    for row in re.finditer(
        r"^\| (T\d+) [^|]+\|([^|]*)\|([^|]*)\|$", (TESTS / "attack" / "README.md").read_text(), re.MULTILINE
    )
}


def test_every_threat_is_there() -> None:
    """Those of PROTOCOL.md, section 2, once each and in its order."""
    assert list(ROWS) == [f"T{number}" for number in range(1, 25)]


@pytest.mark.parametrize("threat", ROWS)
def test_its_tests_exist(threat: str) -> None:
    """Where there is none, a limit says why."""
    tests, limit = ROWS[threat]
    assert tests or limit
    for file, name in tests:
        text = (TESTS / file).read_text()
        assert not name or re.search(rf"^ *(async )?def {name}\(", text, re.MULTILINE), f"{file} has no {name}"
