"""The proxy's log: its form, and what never gets into it."""

import asyncio
import fcntl
import json
import logging
import os
import select
import sys
from collections.abc import Callable, Iterator
from typing import Literal

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from proxy import logs, tasks
from proxy.contract.token import TokenRefusedError, verify
from tests.harness.tokens import AUDIENCE, ISSUER, Signer, grant

Form = Literal["json", "console"]
FORMS: tuple[Form, ...] = ("json", "console")
PASSWORD = "the keeper's password"
KEY = Ed25519PrivateKey.generate()
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
SIGNER = Signer()
TOKEN = SIGNER.token(grant())


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Logging as it was, afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def inner(password: str, key: bytes) -> None:
    """Fail with secrets as arguments, as locals, and inside other objects."""
    options = {"password": password, "nested": [{"key": key}]}
    raise ValueError(f"{len(options)} options will not do")


def outer(token: str) -> None:
    """Fail because of another failure, with a secret in each frame."""
    pem = PEM.encode()
    try:
        inner(PASSWORD, pem)
    except ValueError as error:
        raise RuntimeError(f"a token of {len(token)} characters") from error


def grouped() -> None:
    """Fail twice at once."""
    failures: list[Exception] = []
    ways: list[Callable[[], None]] = [lambda: inner(PASSWORD, PEM.encode()), lambda: outer(TOKEN)]
    for way in ways:
        try:
            way()
        except (ValueError, RuntimeError) as error:
            failures.append(error)
    raise ExceptionGroup("both", failures)


FAILURES: dict[str, Callable[[], None]] = {"chained": lambda: outer(TOKEN), "grouped": grouped}


def secrets_in(text: str) -> list[str]:
    """Every secret, or a good part of one, that `text` shows; however it was folded or cut."""
    plain = "".join(text.split()).replace("\\n", "").replace("│", "")
    lines = PEM.splitlines()[1:-1]
    parts = [PASSWORD, *TOKEN.split("."), *lines]
    shown = ("".join(part.split()) for part in parts)
    return [part for part in shown if part in plain or part[:24] in plain]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fail", FAILURES.values(), ids=FAILURES.keys())
def test_tracebacks_show_no_secret(fail: Callable[[], None], form: Form, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever logs it, structlog or a library, and in whichever way: locals are never shown."""
    logs.configure("debug", form)
    try:
        fail()
    except Exception as error:
        structlog.get_logger("x").exception("failed")
        structlog.get_logger("x").error("failed", exc_info=error)
        structlog.get_logger("x").bind(session="s").warning("failed", exc_info=True)
        logging.getLogger("asyncio").exception("failed")
        logging.getLogger("asyncio").warning("failed", exc_info=error)
    shown = capsys.readouterr().err
    assert shown.count("a token of") >= 5, "the traceback itself is to be there"
    assert shown.count("options will not do") >= 5
    assert secrets_in(shown) == []


@pytest.mark.parametrize("form", FORMS)
async def test_a_failed_task_shows_no_secret(
    form: Form, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The edge where every unforeseen exception comes out."""
    logs.configure("info", form)
    # A logger keeps the stream that it first wrote to, and this test's is closed behind it.
    monkeypatch.setattr(tasks, "log", structlog.get_logger("tasks"))

    async def session(token: str) -> None:
        outer(token)

    await asyncio.wait([tasks.spawn("session", session(TOKEN))])
    await asyncio.sleep(0)
    shown = capsys.readouterr().err
    assert "a token of" in shown
    assert secrets_in(shown) == []


@pytest.mark.parametrize("form", FORMS)
def test_a_refused_token_is_not_in_the_log(form: Form, capsys: pytest.CaptureFixture[str]) -> None:
    """The real verification's own exception, with the token in its frames and in those of PyJWT."""
    logs.configure("info", form)
    forged = f"{TOKEN[:-8]}AAAAAAAA"
    with pytest.raises(TokenRefusedError) as caught:
        verify(forged, keys=SIGNER.keys, issuer=ISSUER, audience=AUDIENCE, now=0.0)
    structlog.get_logger("x").warning("refused", error=str(caught.value), exc_info=caught.value)
    shown = capsys.readouterr().err
    assert "\x1b" not in shown, "this is no terminal"
    assert "TokenRefusedError" in shown
    assert secrets_in(shown) == []


def test_the_search_finds_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """With the locals shown, as structlog does by itself, every kind of secret is found: the tests above can fail."""
    tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=True, locals_max_string=10_000)
    structlog.configure(
        processors=[structlog.processors.ExceptionRenderer(tracebacks), structlog.processors.JSONRenderer()]
    )
    try:
        outer(TOKEN)
    except RuntimeError:
        structlog.get_logger("x").exception("failed")
    found = secrets_in(capsys.readouterr().out)
    assert "".join(PASSWORD.split()) in found
    assert TOKEN.split(".")[2] in found
    assert PEM.splitlines()[1] in found


def test_a_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever clients put into it; the libraries' lines too, from warnings on."""
    logs.configure("info", "json")
    structlog.get_logger("x").info("said", user="a\nb\x1b[31m")
    structlog.get_logger("x").debug("not said")
    logging.getLogger("asyncio").warning("odd %s", "thing")
    logging.getLogger("asyncio").info("chatter")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["said", "odd thing"]
    assert lines[0]["user"] == "a\nb\x1b[31m"
    assert all({"level", "timestamp"} <= line.keys() for line in lines)


def test_a_terminal_obeys_no_client(capsys: pytest.CaptureFixture[str]) -> None:
    """A value with escapes or line breaks is shown quoted."""
    logs.configure("info", "console")
    structlog.get_logger("x").info("said", user="a\nb\x1b[31m")
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert shown.count("\n") == 1


def test_what_is_not_taken_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that is full takes no line, and none waits; where half of one got out, the next begins on its own."""
    sink = logs.Sink()
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, select.PIPE_BUF * 2)
        sink.write("a" * select.PIPE_BUF * 3)
        sink.write("b\n")
        assert sink.lost == 2
        assert reader.read(select.PIPE_BUF * 2) == b"a" * select.PIPE_BUF * 2
        sink.write("c\n")
        sink.write("d\n")
        assert (sink.lost, reader.read(5)) == (2, b"\nc\nd\n")
    sink.write("e\n")
    assert sink.lost == 3
