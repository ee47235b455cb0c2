"""A short run of `python -m tests.bench journal`: its figures have their form. No speed is asserted."""

import json
from pathlib import Path

import pytest

from tests.bench.cases import Amount
from tests.bench.journal import command, ingest, throughput
from tests.bench.results import Quantity, Result
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


@pytest.mark.timeout(240)
def test_control_takes_in_what_a_proxy_has_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every record of a real journal is stored, and the command says how fast, and in how many bytes."""
    monkeypatch.setattr(command, "Amount", lambda **_: TINY)
    file = tmp_path / "figures.json"
    command.main(["ingest", "--rounds", "1", "--json", str(file)])
    found = json.loads(file.read_text())
    assert [(one["case"], sorted(one["values"])) for one in found] == [
        ("ingest", [CURFEW, ingest.PRODUCTION]),
        ("shipping", [CURFEW, ingest.PRODUCTION]),
        ("size", [CURFEW, ingest.JOURNAL]),
    ]
    assert all(value > 0 for one in found for value in one["values"].values())


@pytest.mark.parametrize("quantity", [ingest.INGEST, ingest.SHIPPING])
@pytest.mark.parametrize(("taken", "missed"), [(90.0, True), (100.0, True), (110.0, False)])
def test_control_must_be_faster_than_a_proxy(quantity: Quantity, taken: float, *, missed: bool) -> None:
    """As fast is not enough: what has gathered meanwhile has to go as well."""
    result = Result(case=quantity)
    result.add(ingest.PRODUCTION, 100.0, None)
    result.add(CURFEW, taken, None)
    assert ingest.missed([result]) == [quantity.name] * missed
