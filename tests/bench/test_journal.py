"""A short run of `python -m tests.bench journal`: its figures have their form. No speed is asserted."""

import json
from pathlib import Path

import pytest

from tests.bench.cases import Amount
from tests.bench.journal import command, ingest, shipping, throughput
from tests.bench.results import Result
from tests.bench.ways import CURFEW

TINY = Amount(transactions=5, scale=1, copy_megabytes=1)


@pytest.mark.timeout(120)
def test_every_durability_is_held_against_no_journal() -> None:
    """Each case in both durabilities, beside what the proxy gives that records nothing."""
    found = throughput.measure(TINY, 1, lambda _: None)
    assert [one.case.name for one in found] == [
        f"{name}-{durability}" for name in throughput.NAMES for durability in throughput.DURABILITIES
    ]
    for one in found:
        assert sorted(one.values) == [CURFEW, throughput.NONE]
        assert one.ratios[throughput.NONE] > 0


@pytest.mark.timeout(120)
def test_control_takes_in_what_a_proxy_has_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every record of a real journal is stored, and the command says how fast, and in how many bytes."""
    monkeypatch.setattr(command, "Amount", lambda **_: TINY)
    file = tmp_path / "figures.json"
    command.main(["ingest", "--rounds", "1", "--json", str(file)])
    rate, size = json.loads(file.read_text())
    assert (rate["case"], sorted(rate["values"])) == ("ingest", [CURFEW, ingest.PRODUCTION])
    assert (size["case"], sorted(size["values"])) == ("size", [CURFEW, ingest.JOURNAL])
    assert all(value > 0 for one in (rate, size) for value in one["values"].values())


def test_a_journal_that_waits_is_shipped(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """All of it, and the command says how fast beside what a full proxy makes."""
    monkeypatch.setattr(shipping, "LINES_A_SECOND", 20_000)
    monkeypatch.setattr(shipping, "FULL_LOAD", 1e9)
    assert command.main(["shipping", "--rounds", "1", "--seconds", "1"]) == 1
    said = capsys.readouterr().out
    assert "shipping  round 1/1" in said
    assert "MISSED: shipping" in said


@pytest.mark.parametrize(("taken", "expected"), [(90.0, ["ingest"]), (110.0, [])])
def test_control_must_be_faster_than_a_proxy(taken: float, expected: list[str]) -> None:
    """As fast is not enough: what has gathered meanwhile has to go as well."""
    result = Result(case=ingest.INGEST)
    result.add(ingest.PRODUCTION, 100.0, None)
    result.add(CURFEW, taken, None)
    assert ingest.missed([result]) == expected
