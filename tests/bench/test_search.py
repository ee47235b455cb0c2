"""A short run of `python -m tests.bench search`: it finds what it filled in. How fast, a busy machine cannot say."""

import json
from pathlib import Path

import pytest

from tests.bench import __main__ as bench
from tests.bench.search import beside
from tests.bench.search.asking import QUESTIONS


def test_a_short_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question is asked, and the figures are written."""
    monkeypatch.setattr(beside, "IN_A_BATCH", 200)
    report = tmp_path / "search.json"
    amounts = ["--records", "3000", "--rounds", "1", "--batches", "4"]
    bench.main(["search", *amounts, "--folder", str(tmp_path), "--json", str(report)])
    figures = {one["what"]: one["measured"] for one in json.loads(report.read_text())}
    assert figures["statements indexed, with nothing beside"] > 0
    assert figures["records taken in, while it follows"] > 0
    assert 50 < figures["the index, for each statement"] < 1_000
    said = capsys.readouterr().out
    for found in ("nothing but the newest: 100 found,", "a frequent text: 100 found,", "a rare text: 0 found,"):
        assert found in said
    assert all(figures[f"{question}: p50"] > 0 for question in QUESTIONS)
