"""What end mode `finish` makes of a decision to end a session, and how the record tells it."""

from typing import get_args

import pytest

from proxy.clock import Deadline
from proxy.contract.grant import EndMode
from proxy.contract.record import EndReason
from proxy.decision import Finishing, Stop
from tests.harness.tokens import grant

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
