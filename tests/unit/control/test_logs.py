"""The log's form, and what never gets into it."""

import contextlib
import json
import logging
import sys
from typing import Literal

import pytest
import structlog

from control import logs

SECRET = "cfk_0123_hush"


@pytest.fixture(autouse=True)
def _restored() -> object:
    """The standard library's logging as it was, afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield None
    root.handlers[:] = handlers
    root.setLevel(level)


def fail(secret: str) -> None:
    """Fail with a secret among the locals."""
    raise ValueError(f"a text of {len(secret)}")


@pytest.mark.parametrize("form", ["json", "console"])
def test_tracebacks_have_no_locals(form: Literal["json", "console"], capsys: pytest.CaptureFixture[str]) -> None:
    """Where something fails there may be a token in some frame."""
    logs.configure(level="info", form=form)
    local = SECRET
    try:
        fail(local)
    except ValueError:
        structlog.get_logger("x").exception("failed", n=1)
        logging.getLogger("y").exception("failed too")
    shown = capsys.readouterr().err
    assert shown.count("a text of") >= 2
    assert SECRET not in shown


def test_a_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever people put into it; the libraries' lines too, from warnings on."""
    logs.configure(level="info", form="json")
    structlog.get_logger("x").info("said", text="a\nb\x1b[31m")
    structlog.get_logger("x").debug("not said")
    logging.getLogger("uvicorn.error").warning("odd %s", "request")
    logging.getLogger("uvicorn.error").info("chatter")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["said", "odd request"]
    assert lines[0]["text"] == "a\nb\x1b[31m"
    assert {"level", "timestamp"} <= lines[1].keys()
    assert sys.stderr


def test_a_log_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was to be done is done all the same: nothing raises."""
    logs.configure(level="info", form="json")
    with open("/dev/full", "w", buffering=1, encoding="utf-8") as full:  # noqa: PTH123 no path of ours
        monkeypatch.setattr(sys, "stderr", full)
        structlog.get_logger("x").info("lost")
        logging.getLogger("y").error("lost, too")
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()
