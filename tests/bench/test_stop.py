"""A short run of `python -m tests.bench stop`: nothing is missed. How soon it is, a busy machine cannot say."""

import json
from pathlib import Path

import pytest

from tests.bench import __main__ as bench
from tests.bench.pressure.command import report
from tests.bench.stop import amount, crowd, sessions
from tests.bench.stop.amount import AIM_S, Amount, missed, spread
from tests.bench.stop.fake import elements

FEW, MORE = 12, 40


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few sessions are there sooner."""
    for part in (sessions, crowd):
        monkeypatch.setattr(part, "LEADS_S", (2.0, *amount.LEADS_S))


@pytest.mark.timeout(300)
def test_real_sessions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twelve in six states: none lives on, nothing is changed, everybody is told; and the figures are written."""
    report = tmp_path / "stop.json"
    bench.main(["stop", "sessions", "--sessions", str(FEW), "--json", str(report)])
    figures = json.loads(report.read_text())
    assert [one["what"] for one in figures if one["aim"] == 0 and one["measured"]] == []
    assert figures[0]["what"] == f"{FEW} sessions, decision to backend gone: p99"
    assert 0 < figures[0]["measured"] < amount.LEADS_S[-1]
    assert f"sessions  {FEW} ended at once, 10 of 10 clients that read were told why" in capsys.readouterr().out


@pytest.mark.timeout(300)
def test_a_crowd() -> None:
    """Forty on a fake upstream: each client is told, each connection closed, each end verified."""
    said: list[str] = []
    found = crowd.measure(Amount(crowd=MORE), said.append)
    assert [one.what for one in found if one.aim == 0 and one.missed] == []
    assert said[0].startswith(f"crowd  {MORE} sessions ended at once")


def test_figures() -> None:
    """The p99 has an aim; one that was missed is one too many."""
    p99, p50, longest = spread("it", [0.1] * 99 + [AIM_S + 1])
    assert (p99.missed, p50.measured, longest.measured) == (True, 0.1, AIM_S + 1)
    assert (p50.aim, longest.aim) == (None, None)
    assert [missed("gone", count).missed for count in (0, 1)] == [False, True]
    assert report([p50]) == 0
    assert report([p99]) == 1


def test_the_fake_reads_arrays() -> None:
    """As the keeper writes them."""
    assert elements('{"1","True","2026-01-01 00:00:00+00:00"}') == ["1", "True", "2026-01-01 00:00:00+00:00"]
    assert elements("{}") == []
