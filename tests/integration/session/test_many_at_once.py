"""Many sessions that begin and end at the same moments: the keeper is asked for all of them together."""

import asyncio
import time

import pytest

from proxy.contract.record import SessionEnd, decode
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.tokens import grant as make_grant
from tests.harness.wire import Wire

SESSIONS = 40
LEAD_S = 2.0
SPREAD_S = 0.3


async def one_session(proxy: Proxy, grant: str, end: float, begins_in: float) -> dict[str, str]:
    """A session that begins a little later and lives until its grant ends; what it was told then."""
    await asyncio.sleep(begins_in)  # Logins and ends a few ms apart are what this is about.
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.signer.token(make_grant(id=grant, profile="app"), exp=end))
        return (await wire.rest(within=LEAD_S + 5))[-1].fields


@pytest.mark.parametrize("spread", [0, SPREAD_S], ids=["at once", "one after the other"])
async def test_logins_and_ends(proxy: Proxy, spread: float) -> None:
    """Every one gets in, every one ends in time, and each is told of its own grant."""
    end = time.time() + LEAD_S
    grants = [new_grant_id() for _ in range(SESSIONS)]
    told = await asyncio.gather(
        *(
            one_session(proxy, grant, end + number * spread / SESSIONS, number * spread / SESSIONS)
            for number, grant in enumerate(grants)
        )
    )
    for grant, fields in zip(grants, told, strict=True):
        assert fields["C"] == "57P01"
        assert grant in fields["M"]
        last = decode((await proxy.session_of(grant))[-1])
        assert isinstance(last, SessionEnd)
        assert last.gone_at is not None
        assert last.gone_at - last.decided_at < 1e9
    assert "the keeper has no connection" not in proxy.log()
