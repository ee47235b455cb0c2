"""Each target over its corpus and for a few seconds more; and that a fault which somebody plants is found.

`python -m tests.fuzz --seconds 3600` is a long campaign.
"""

import hmac
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from proxy.wire import _framing_py
from proxy.wire import startup as packets
from tests.fuzz.__main__ import CORPUS, environment, main
from tests.fuzz.targets import NAMES, UNGUIDED, bind, framing, scram, shortcut, startup, tracker

SECONDS = int(os.environ.get("CURFEW_FUZZ_SECONDS", "6"))
LARGEST = 200_000
"""Bytes of all corpora."""
Plant: TypeAlias = Callable[[pytest.MonkeyPatch], None]


def inputs(target: str) -> list[Path]:
    """The target's corpus."""
    return sorted((CORPUS / target).iterdir())


@pytest.mark.parametrize("target", NAMES)
def test_corpus(target: str) -> None:
    """No input of the corpus fails; each is named on the way, for whoever must look for one that hangs."""
    check = import_module(f"tests.fuzz.targets.{target}").check
    assert inputs(target)
    for path in inputs(target):
        print(path.name)  # noqa: T201 shown where the test fails
        check(path.read_bytes())


def test_corpora_are_small() -> None:
    """They are in every clone."""
    assert sum(path.stat().st_size for target in NAMES for path in inputs(target)) <= LARGEST


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("target", NAMES)
def test_fuzzed(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Some thousand new inputs, none of which fails."""
    assert main([target, "--seconds", str(SECONDS)]) == 0, capsys.readouterr().out


def longer_messages(patch: pytest.MonkeyPatch) -> None:
    """One byte more than the other twin takes."""
    patch.setattr(_framing_py, "_SMALL_LIMIT", _framing_py._SMALL_LIMIT + 1)


def bound_unseen(patch: pytest.MonkeyPatch) -> None:
    """A Bind without an Execute is in no record."""
    patch.setattr(tracker, "TWINS", tracker.TWINS[:1])  # so that nothing is there to compare with
    patch.setattr(tracker.TWINS[0].tracker.Tracker, "_show_bound", lambda _self, _records: None)


def unended(patch: pytest.MonkeyPatch) -> None:
    """A session that is over leaves statements without an end."""
    patch.setattr(tracker, "TWINS", tracker.TWINS[:1])
    patch.setattr(tracker.TWINS[0].tracker.Tracker, "close", lambda _self, _now, _copied: [])


def null_as_text(patch: pytest.MonkeyPatch) -> None:
    """NULL is recorded as an empty text."""
    patch.setattr(bind, "TWINS", bind.TWINS[:1])
    statements: dict[str, Any] = bind.TWINS[0].tracker.read_bind.__globals__
    decode = statements["decode"]
    patch.setitem(
        statements, "decode", lambda oid, form, raw: decode(oid, 0, b"") if raw is None else decode(oid, form, raw)
    )


def parameter_lost(patch: pytest.MonkeyPatch) -> None:
    """The last startup parameter goes astray."""
    pairs = packets._pairs
    patch.setattr(packets, "_pairs", lambda body: pairs(body)[: max(1, len(pairs(body)) - 1)])


def any_signature(patch: pytest.MonkeyPatch) -> None:
    """The server's proof is not looked at."""
    patch.setattr(hmac, "compare_digest", lambda _one, _other: True)


def test_the_shortcut_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Among compiled modules, where it is used; it would be found out if it kept to itself what it has begun."""
    taken: Any = shortcut.TAKEN
    if taken.__name__ != "Shortcut":
        pytest.skip("it is not built here")
    assert [environment(name)["CURFEW_FRAMER"] for name in UNGUIDED] == [""]
    monkeypatch.setattr(shortcut, "TAKEN", type("Closed", (taken,), {"leave": lambda _self: None}))
    with pytest.raises(AssertionError):
        _check_all(shortcut)


@pytest.mark.parametrize(
    ("target", "plant"),
    [
        (framing, longer_messages),
        (tracker, bound_unseen),
        (tracker, unended),
        (bind, null_as_text),
        (startup, parameter_lost),
        (scram, any_signature),
    ],
)
def test_planted_fault(target: Any, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401 a module
    """The corpus alone finds it: the target looks, and its inputs get there."""
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        _check_all(target)


def _check_all(target: Any) -> None:  # noqa: ANN401 as above
    for path in inputs(target.__name__.rpartition(".")[2]):
        target.check(path.read_bytes())
