"""How access ends, by the command: end modes, more time, locks, and the proof that it is over."""

from tests.integration.client.test_access import Somebody, asked, listed


def test_the_approver_picks_how_sessions_end(somebody: Somebody) -> None:
    """Who asks says what they would like, who approves says what it is, and everybody sees it."""
    dba, carol = somebody("dba1"), somebody("carol")
    said = dba.ok("request", "orders", "dba", "--reason", "a long index", "--end", "finish")
    assert "asked to finish what runs at the end: a long index" in said
    done = carol.run("approve", said.split()[0])
    assert "granted is a hard end" in done.stderr
    carol.ok("approve", second := asked(dba), "--end", "finish")
    ends = {one["request"]: one["end"] for one in listed(dba, "grants")}
    assert (ends[said.split()[0]], ends[second]) == ("hard", "finish")
    row = next(line for line in dba.ok("grants").splitlines() if " finish " in line)
    assert "HOW" in dba.ok("grants").splitlines()[0]
    assert row.split()[1] == "active"
    assert carol.run("approve", second, "--end", "soon").returncode == 2
