"""A short run of `python -m tests.bench search`: it finds what it filled in. How fast, a busy machine cannot say."""

import asyncio
import json
import random
from pathlib import Path

import pytest

from control.domain.results import Success
from control.operations.search import search
from control.store.index import reading
from tests.bench import __main__ as bench
from tests.bench.search import beside
from tests.bench.search.asking import AUDITOR, BOOKS, QUESTIONS, index, service
from tests.bench.search.filling import Filling
from tests.bench.search.reading import fits, read

AMOUNT = 20_000


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
    assert all(figures[f"{question}: cold"] > 0 for question in QUESTIONS)
    said = capsys.readouterr().out
    for found in ("nothing but the newest: 100 found,", "a frequent text: 100 found,", "a very rare text: 0 found,"):
        assert found in said
    assert all(figures[f"{question}: p50"] > 0 for question in QUESTIONS)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of more than one block, indexed."""
    folder = tmp_path_factory.mktemp("filled")
    filling = Filling(AMOUNT)
    filling.fill(folder / BOOKS, print)
    asyncio.run(index(folder, filled=filling, say=print))
    return folder


async def test_what_is_found_is_what_is_there(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page by page, all that every question asks for and nothing else, as reading all records one by one finds it."""
    monkeypatch.setattr(reading, "MANY", 500)  # so that some texts are found too often for two blocks at once
    source, records = random.Random(7), read(filled / BOOKS)
    async with service(filled) as services:
        for name, make in QUESTIONS.items():
            query = make(source, Filling(AMOUNT))
            found: list[int] = []
            before: int | None = None
            while True:
                answer = await search(services, query, asker=AUDITOR, before=before, limit=1_000)
                assert isinstance(answer, Success)
                found += [hit.entry.id for hit in answer.value.hits]
                before = answer.value.before
                if before is None:
                    break
            assert found == [one.leaf for one in records if fits(query, one)], name
