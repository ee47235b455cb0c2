"""The bench itself: every case runs through every way, and its figures have the promised form. No speed is asserted."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import __main__ as command
from tests.bench import pgbouncer, stand
from tests.bench.cases import CASES, Amount
from tests.bench.results import Result, table
from tests.bench.runner import run_case
from tests.bench.ways import CURFEW, DIRECT, PGBOUNCER, Way
from tests.harness.binaries import postgresql_bin
from tests.harness.processes import run

TINY = Amount(transactions=5, scale=1, copy_megabytes=2)


@pytest.fixture(scope="module")
def ways() -> Iterator[list[Way]]:
    """Every way, with little data."""
    with stand.ready(TINY) as ready:
        yield ready


@pytest.mark.parametrize("name", CASES)
def test_a_case_gives_positive_figures_for_every_way(ways: list[Way], name: str) -> None:
    """Each case once, as small as it goes, and its JSON entry as DESIGN.md section 7 has it."""
    said: list[str] = []
    entry = run_case(CASES[name], ways, TINY, rounds=1, say=said.append).as_json()
    others = [DIRECT, *([PGBOUNCER] if pgbouncer.find() else [])]
    assert list(entry) == ["case", "metric", "unit", "values", "ratios"]
    assert entry["case"] == name
    assert sorted(entry["values"]) == sorted([*others, CURFEW])
    assert sorted(entry["ratios"]) == sorted(others)
    assert all(figure > 0 for figure in [*entry["values"].values(), *entry["ratios"].values()])
    assert len(said) == len(ways)


@pytest.mark.parametrize("tls", [True, False])
def test_tls_is_on_the_clients_leg_and_nowhere_else(ways: list[Way], *, tls: bool) -> None:
    """What psql says of its own connection, and what PostgreSQL says of the one that reaches it."""
    for way in ways:
        asked = [r"\conninfo", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"]
        command: list[str | Path] = [
            postgresql_bin() / "psql",
            "-X",
            "-A",
            "-t",
            *(part for one in asked for part in ("-c", one)),
        ]
        said = run(command, environment=way.environment(tls=tls)).stdout
        assert ("TLS" in said) == tls, way.name
        assert said.splitlines()[-1] == ("t" if tls and way.name == DIRECT else "f"), way.name


def test_a_result_is_the_median_and_its_ratio() -> None:
    """One slow round moves nothing; a ratio is Curfew's share of the other."""
    result = Result(case=CASES["copy-out"])
    for direct, curfew in ((100, 50), (1, 1), (104, 52)):
        result.add(DIRECT, direct, None)
        result.add(CURFEW, curfew, curfew / 1e6)
    assert result.as_json()["values"] == {CURFEW: 50, DIRECT: 100}
    assert result.as_json()["ratios"] == {DIRECT: 0.5}
    assert table([result]).splitlines()[1].split() == ["copy-out", "MB/s", "100", "50", "0.50", "50.0", "us"]


def test_the_command_runs_one_case_and_writes_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m tests.bench --json FILE CASE`: the table on stdout, the list in the file."""
    file = tmp_path / "figures.json"
    assert command.main(["--seconds", "1", "--rounds", "1", "--json", str(file), "select-prepared-1"]) == 0
    assert [entry["case"] for entry in json.loads(file.read_text())] == ["select-prepared-1"]
    assert "select-prepared-1  transactions/s" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["nothing"], ["--seconds", "0"], ["--rounds", "-1"], ["--profile", "nothing"]])
def test_the_command_refuses_what_it_does_not_know(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A case that is none, and amounts that measure nothing, are told before anything starts."""
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == 2
    assert "usage: python -m tests.bench" in capsys.readouterr().err
