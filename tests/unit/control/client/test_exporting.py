"""What `curfew export` takes together."""

from pathlib import Path
from typing import Any

import pytest
import typer

from control.client import exporting
from control.client.rendering import Form

FILE = Path("/nowhere/f")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"wanted": Form.JSONL}, "name sessions, or give --all or --since"),
        ({"sessions": ["x"]}, "give --format, or --bundle FILE"),
        ({"sessions": ["x"], "wanted": Form.HTML, "bundle": FILE}, "give --format, or --bundle FILE"),
        ({"sessions": ["x"], "everything": True, "wanted": Form.JSONL}, "name sessions, or give --all or --since"),
        ({"everything": True, "since": "7d", "wanted": Form.JSONL}, "name sessions, or give --all or --since"),
        ({"sessions": ["x", "y"], "wanted": Form.HTML}, "a file of html is of one session"),
        ({"everything": True, "wanted": Form.ASCIICAST}, "a file of asciicast is of one session"),
        ({"since": "soon", "wanted": Form.ECS}, "'soon' is no time"),
        ({"since": "7d", "bundle": FILE}, "--output and --since go with --format"),
        ({"sessions": ["x"], "bundle": FILE, "output": "g"}, "--output and --since go with --format"),
        ({"sessions": ["x"], "wanted": Form.ECS, "log_key": "k"}, "--log-key and --head go with --bundle"),
        ({"sessions": ["x"], "wanted": Form.ECS, "head": [FILE]}, "--log-key and --head go with --bundle"),
    ],
)
def test_what_does_not_fit_together_is_refused(given: dict[str, Any], said: str) -> None:
    """Before the service is asked anything, and in words."""
    with pytest.raises(typer.BadParameter, match=said):
        exporting.export(**given)
