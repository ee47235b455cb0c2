"""Which decision ends a session, what end mode `finish` makes of it, and how the record tells it."""

import asyncio
import time
from typing import get_args

import pytest

from proxy.clock import Deadline, Deadlines
from proxy.contract.grant import EndMode
from proxy.contract.record import EndReason, Notice
from proxy.decision import Decision, Finishing, Stop
from proxy.notices import Notices
from tests.harness.tokens import grant
from tests.unit.proxy.stand import MakeStand, Stand
from tests.unit.proxy.wire.playbook import READY, complete, query

IN_GOOD_ORDER = {"expired", "drained"}


def stop_for(reason: EndReason) -> Stop:
    """Decided at some time."""
    return Stop(reason=reason, by=None, decided_at=5)


@pytest.mark.parametrize("reason", get_args(EndReason))
def test_who_may_finish(reason: EndReason) -> None:
    """What runs when its grant ends in good order, and then only in that mode. Whatever else ends it means now."""
    assert stop_for(reason).may_finish(grant(end=EndMode.FINISH)) is (reason in IN_GOOD_ORDER)
    assert not stop_for(reason).may_finish(grant(end=EndMode.HARD))


def test_how_it_went() -> None:
    """To its end, out of time, or cut short by something else, which is then what ended it."""
    expired = stop_for("expired")
    finishing = Finishing(stop=expired, until=7.5, deadline=Deadline(7.5, 0, 0.0, None))
    told = finishing.record(expired)
    assert (told.ended, told.decided_at, told.until) == ("done", 5, 7_500_000_000)
    assert finishing.record("client").ended == "cut"
    assert finishing.record(Stop(reason="expired", by=None, decided_at=6)).ended == "cut"
    assert finishing.record(stop_for("revoked")).ended == "cut"
    finishing.timed_out = True
    assert finishing.record(expired).ended == "timeout"
    assert finishing.record(stop_for("revoked")).ended == "cut"


FINISHES = grant(end=EndMode.FINISH)
FINISH_S = 30.0


def decision_on(stand: Stand, deadlines: Deadlines | None = None) -> Decision:
    """Of the session whose relay this is."""
    decision = Decision(deadlines or Deadlines())
    decision.applies_to(stand.relay, Notices(stand.relay, FINISHES), finish_timeout_s=FINISH_S)
    return decision


async def test_the_first_one_counts() -> None:
    """Before there is a relay too; and then nothing is open."""
    decision = Decision(Deadlines())
    before = decision.final
    decision.take(stop_for("killed"), FINISHES, at_once=False)
    decision.take(stop_for("expired"), FINISHES, at_once=True)
    assert decision.made.result() == stop_for("killed")
    assert (before, decision.final) == (False, True)
    assert decision.scene is None


async def test_what_runs_may_finish(stand: Stand) -> None:
    """The person is told, on record; the end is that decision's when all is answered."""
    stand.client.data_received(query("a"))
    decision = decision_on(stand)
    decision.take(stop_for("expired"), FINISHES, at_once=False)
    assert (decision.final, decision.made.done()) == (True, False)
    assert decision.finish_s == pytest.approx(FINISH_S, abs=10)
    stand.client.data_received(query("b"))
    stand.server.data_received(complete("A") + READY)
    assert stand.upstream == query("a")
    cause = decision.cause(stand.cause())
    assert cause == stop_for("expired")
    assert (how := decision.finish(cause)) is not None
    assert how.ended == "done"
    assert [one.message for one in stand.records() if isinstance(one, Notice)] == [
        f"access to {FINISHES.target} has ended: the grant has expired (grant {FINISHES.id})"
    ]


async def test_where_nothing_runs_nothing_finishes(stand: Stand) -> None:
    """The end is now, and the relay is shut."""
    decision = decision_on(stand)
    decision.take(stop_for("expired"), FINISHES, at_once=False)
    assert decision.made.done()
    stand.client.data_received(query("a"))
    assert stand.upstream == b""


@pytest.mark.parametrize(("reason", "at_once"), [("revoked", False), ("drained", True)])
async def test_now_means_now(stand: Stand, reason: EndReason, at_once: bool) -> None:  # noqa: FBT001 a case
    """What was let finish is cut short; a second end in good order changes nothing."""
    stand.client.data_received(query("a"))
    decision = decision_on(stand)
    decision.take(stop_for("expired"), FINISHES, at_once=False)
    decision.take(stop_for("drained"), FINISHES, at_once=False)
    assert not decision.made.done()
    decision.take(stop_for(reason), FINISHES, at_once=at_once)
    assert decision.made.result().reason == reason
    assert decision.scene is not None
    assert (how := decision.finish(decision.made.result())) is not None
    assert how.ended == "cut"


async def test_out_of_time(stands: MakeStand) -> None:
    """The end comes all the same, unless the session was over before."""
    deadlines, made = Deadlines(), []
    for over in (False, True):
        stand = stands()
        stand.client.data_received(query("a"))
        made.append(decision := decision_on(stand, deadlines))
        decision.take(stop_for("expired"), FINISHES, at_once=False)
        if over:
            decision.close()
    deadlines.fire(wall=time.time() + FINISH_S + 1, monotonic=time.monotonic() + FINISH_S + 1)
    await asyncio.sleep(0)  # They are called in the loop's next turn.
    assert [one.made.done() for one in made] == [True, False]
    assert (how := made[0].finish(made[0].made.result())) is not None
    assert how.ended == "timeout"
