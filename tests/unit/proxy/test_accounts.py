"""When an account is due to go, while somebody sets the clock on the wall."""

import time

import msgspec
import pytest

from proxy import accounts
from proxy.account_ledger import Entry

GRANT_S, FINISH_S, LINGER_S = 600.0, 30.0, 60.0


class Clocks:
    """Both of them, in hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.monotonic = 1_800_000_000.0, 50.0
        monkeypatch.setattr(time, "time", lambda: self.wall)
        monkeypatch.setattr(time, "monotonic", lambda: self.monotonic)

    def pass_by(self, seconds: float) -> None:
        """Time goes on."""
        self.wall += seconds
        self.monotonic += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    """Of a machine that was started not long ago."""
    return Clocks(monkeypatch)


@pytest.fixture
def held(clocks: Clocks) -> accounts._Held:
    """That of a session, on a grant that has just begun."""
    entry = Entry(
        account="curfew_ada_grt_1",
        target="orders",
        grant="grt_1",
        person="ada",
        identity="ephemeral",
        until=clocks.wall + GRANT_S,
        finish_s=FINISH_S,
    )
    made = accounts._Held(entry=entry, linger_s=LINGER_S)
    assert made.left_s() <= 0  # Nobody has come for it.
    made.sessions.add("one")
    return made


def leave(held: accounts._Held) -> None:
    """Its session ends, and the person may come back."""
    held.sessions.clear()
    held.due = time.monotonic() + held.linger_s


def test_with_a_session(held: accounts._Held, clocks: Clocks) -> None:
    """Until the grant's end, and until what runs has finished and the session has been ended."""
    assert held.left_s() == GRANT_S + FINISH_S + accounts.GRACE_S
    clocks.pass_by(GRANT_S)
    assert held.left_s() == FINISH_S + accounts.GRACE_S


@pytest.mark.parametrize("step_s", [-86_400.0, 0.0])
def test_it_lingers(held: accounts._Held, clocks: Clocks, step_s: float) -> None:
    """So long and no longer, whatever the clock on the wall says."""
    leave(held)
    clocks.wall += step_s
    clocks.pass_by(LINGER_S - 1)
    assert held.left_s() == 1
    clocks.pass_by(1)
    assert held.left_s() == 0


@pytest.mark.parametrize("step_s", [-86_400.0, 0.0])
def test_the_grant_ends(held: accounts._Held, clocks: Clocks, step_s: float) -> None:
    """It does not linger behind the grant's end, which setting the clock back does not move."""
    clocks.pass_by(GRANT_S - 10)
    leave(held)
    clocks.wall += step_s
    held.note(msgspec.structs.replace(held.entry, revoked=False))  # Nothing new of its end.
    assert held.left_s() == 10
    clocks.pass_by(10)
    assert held.left_s() == 0


def test_the_clock_is_set_forward(held: accounts._Held, clocks: Clocks) -> None:
    """A grant that has ended by the clock on the wall has ended."""
    leave(held)
    clocks.wall += GRANT_S
    assert held.left_s() <= 0


def test_an_extension(held: accounts._Held, clocks: Clocks) -> None:
    """The end is that of the extended grant, and counts as the first one did."""
    held.note(msgspec.structs.replace(held.entry, until=held.entry.until + 100))
    clocks.wall -= 86_400
    clocks.pass_by(GRANT_S + 100)
    assert held.left_s() == FINISH_S + accounts.GRACE_S


@pytest.mark.parametrize("step_s", [-86_400.0, 0.0])
def test_a_revocation(held: accounts._Held, clocks: Clocks, step_s: float) -> None:
    """It goes at once, but for sessions, which have a moment to end by themselves."""
    held.over_at = time.monotonic()
    clocks.wall += step_s
    assert held.left_s() == accounts.GRACE_S
    leave(held)
    assert held.left_s() == 0
