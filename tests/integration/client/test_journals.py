"""Sessions that never came to control are missing from its log too: a bundle says so, by the journals' own chains."""

from pathlib import Path

import pytest

from control.client.bundle import MANIFEST
from tests.harness.certs import Authority
from tests.integration.client.test_log import House, login, members, offline_report, pack
from tests.unit.control.client.test_journals import journal_lines

MISSING = (
    "1 session missing as a whole: number 2, behind the session s1 (number 1), before the session s3 (number 3)",
    "1 session missing as a whole: number 5, behind the session s4 (number 4), before session s0 ended",
)


def test_sessions_that_the_log_never_had(ca: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a bundle of everything; where it claims to be a part, what it has is good, and nothing is said to be whole."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    house = House(tmp_path, ca)
    try:
        house.start()
        login(house, monkeypatch)
        (tmp_path / "journal").mkdir()
        sent = journal_lines(tmp_path / "journal", house.edge.key, proxy="edge")
        for number in (0, 1, 3, 4):
            house.edge.post(b"".join(line + b"\n" for line in sent[number]))
        bundle = house.export(tmp_path / "all", "--all")
        report = offline_report(house, bundle)
        assert report.log is not None
        assert (report.ok, report.log.fault, {one.fault for one in report.sessions}) == (False, None, {None})
        (journal,) = report.journals
        assert (journal.proxy, journal.sessions, journal.whole) == ("edge", 4, False)
        assert sorted(journal.faults) == sorted(MISSING)
        said = house.auditor.run("verify", str(bundle))
        assert said.returncode == 1
        assert all(f"of proxy edge: {fault}" in said.stdout for fault in MISSING)
        files = members(bundle)
        files[MANIFEST] = files[MANIFEST].replace(b'"full": true', b'"full": false')
        part = offline_report(house, pack(tmp_path / "part", files))
        assert part.ok
        assert [one.whole for one in part.journals] == [False]
        for number in (2, 5):
            house.edge.post(b"".join(line + b"\n" for line in sent[number]))
        late = offline_report(house, house.export(tmp_path / "late", "--all"))
        assert late.ok
        assert [(one.sessions, one.whole) for one in late.journals] == [(6, True)]
    finally:
        house.close()
