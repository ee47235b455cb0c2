"""Asking control to count, against a control that answers as a test says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from proxy import quota as module
from proxy.contract.grant import Grant
from proxy.contract.places import MOST_LISTED, Counted, Heard, Present, Wanted
from proxy.control_client import ControlError
from proxy.errors import NotCounted, TooManySessions
from proxy.quota import Quota
from proxy.tasks import spawn
from tests.harness.tokens import grant
from tests.harness.waiting import eventually

LIMITED = grant(id="grt_1", max_sessions=2)


class Control:
    """Counts as it is told, and notes what it hears."""

    def __init__(self) -> None:
        self.wanted: list[Wanted] = []
        self.heard: list[Present] = []
        self.admits = True
        self.away = False
        self.newest = 0
        self.answering = asyncio.Event()
        self.answering.set()

    async def take_place(self, grant: str, wanted: Wanted) -> Counted:
        """A place, if there is one."""
        assert grant == LIMITED.id
        self.wanted.append(wanted)
        await self.answering.wait()
        if self.away:
            raise ControlError("control cannot be reached")
        self.newest += 1
        return Counted(admitted=self.admits, number=self.newest if self.admits else 0)

    async def tell_presence(self, present: Present) -> Heard:
        """Note it."""
        if self.away:
            raise ControlError("control cannot be reached")
        self.heard.append(present)
        return Heard(newest=self.newest)


@pytest.fixture
def control() -> Control:
    """One that counts."""
    return Control()


@pytest.fixture
def quota(control: Control) -> Quota:
    """One that asks it."""
    return Quota(control, holder="worker-2")


@asynccontextmanager
async def running(quota: Quota) -> AsyncIterator[None]:
    """It tells what it has meanwhile."""
    task = spawn("quota", quota.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def take(quota: Quota, session: str, of: Grant = LIMITED) -> None:
    """A place."""
    await quota.take(of, session)


async def test_only_limited_grants_are_counted(quota: Quota, control: Control) -> None:
    """The others cost no round trip."""
    await take(quota, "s1", grant(id="grt_2", max_sessions=None))
    assert control.wanted == []
    await take(quota, "s2")
    assert [(one.session, one.holder) for one in control.wanted] == [("s2", "worker-2")]


async def test_no_place(quota: Quota, control: Control) -> None:
    """The client is told the limit."""
    control.admits = False
    with pytest.raises(TooManySessions) as refused:
        await take(quota, "s1")
    assert (refused.value.sqlstate, refused.value.detail) == ("53300", "Grant grt_1 allows 2 at once.")


async def test_control_is_away(quota: Quota, control: Control) -> None:
    """Nobody gets in uncounted, and the client is told why."""
    control.away = True
    with pytest.raises(NotCounted) as refused:
        await take(quota, "s1")
    assert refused.value.sqlstate == "57P03"
    assert "allows 2 sessions at once over all proxies" in str(refused.value.detail)


async def test_control_does_not_answer(quota: Quota, control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, after a while; what it may have counted by then is given back."""
    monkeypatch.setattr(module, "ANSWER_S", 0.05)
    control.answering.clear()
    with pytest.raises(NotCounted):
        await take(quota, "s1")
    async with running(quota):
        await eventually(lambda: control.heard)
    assert control.heard[0].sessions == []


async def test_a_login_that_goes_away_meanwhile(quota: Quota, control: Control) -> None:
    """Has no place to keep."""
    control.answering.clear()
    login = spawn("login", take(quota, "s1"))
    await eventually(lambda: control.wanted)
    login.cancel()
    with pytest.raises(asyncio.CancelledError):
        await login
    async with running(quota):
        await eventually(lambda: control.heard)
    assert control.heard[0].sessions == []


async def test_who_waits_for_an_answer_is_on_the_list(quota: Quota, control: Control) -> None:
    """Control may have counted it already, and must not give it back."""
    control.answering.clear()
    login = spawn("login", take(quota, "s1"))
    await eventually(lambda: control.wanted)
    async with running(quota):
        await eventually(lambda: control.heard)
        assert control.heard[0] == Present(
            holder="worker-2", run=control.wanted[0].run, known=0, sessions=["s1"], alone=False
        )
        control.answering.set()
        await login


async def test_a_place_is_given_back_at_once(quota: Quota, control: Control) -> None:
    """Not with the next beat; and what control has numbered since is known by then."""
    await take(quota, "s1")
    await take(quota, "s2")
    async with running(quota):
        await eventually(lambda: control.heard)
        assert control.heard[-1].sessions == ["s1", "s2"]
        quota.give_back("s1")
        await eventually(lambda: control.heard[-1].sessions == ["s2"], within=1.0)
        assert control.heard[-1].known == 2
        quota.give_back("never had one")
        quota.be_alone()
        await eventually(lambda: control.heard[-1].alone, within=1.0)


async def test_what_control_did_not_hear_is_said_again(
    quota: Quota, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it does."""
    monkeypatch.setattr(module, "BEAT_S", 0.02)
    await take(quota, "s1")
    control.away = True
    async with running(quota):
        quota.give_back("s1")
        await asyncio.sleep(0)
        control.away = False
        await eventually(lambda: control.heard)
    assert control.heard[0].sessions == []


async def test_the_last_word(quota: Quota, control: Control) -> None:
    """A place is given back though the process ends, if control does not know yet; else there is nothing to say."""
    await take(quota, "s1")
    await quota.close()
    assert control.heard == []
    quota.give_back("s1")
    await quota.close()
    assert [one.sessions for one in control.heard] == [[]]
    await quota.close()
    assert len(control.heard) == 1


async def test_more_than_can_be_listed(quota: Quota, control: Control) -> None:
    """Then it knows nothing, so that control takes no place from anybody."""
    for number in range(MOST_LISTED + 1):
        await take(quota, f"s{number}")
    async with running(quota):
        await eventually(lambda: control.heard)
        assert (control.heard[-1].sessions, control.heard[-1].known) == ([], 0)
        quota.give_back("s0")
        await eventually(lambda: len(control.heard[-1].sessions) == MOST_LISTED, within=1.0)
        assert control.heard[-1].known == MOST_LISTED + 1


async def test_the_last_word_where_control_was_away(quota: Quota, control: Control) -> None:
    """What control did not hear before is said with it."""
    await take(quota, "s1")
    quota.give_back("s1")
    control.away = True
    await quota.close()
    control.away = False
    await quota.close()
    assert [one.sessions for one in control.heard] == [[]]


async def test_a_number_that_was_known_stays_known(quota: Quota, control: Control) -> None:
    """An answer that is older than the last place makes nothing unknown again."""
    await take(quota, "s1")
    await take(quota, "s2")
    control.newest = 1
    async with running(quota):
        await eventually(lambda: control.heard)
        quota.give_back("s1")
        await eventually(lambda: control.heard[-1].sessions == ["s2"], within=1.0)
    assert control.heard[-1].known == 2
