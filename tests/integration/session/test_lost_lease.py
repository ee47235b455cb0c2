"""A lost lease: each target has what it asked for, of the sessions that run and of new ones."""

import time
from contextlib import AsyncExitStack
from pathlib import Path

from proxy.contract.directive import LEASE_S
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import new_grant_id
from tests.harness.waiting import eventually
from tests.harness.wire import query
from tests.integration.session.governed import Governed

POLICIES = ("refuse-new", "end-sessions", "run-on")


async def test_control_goes_away(postgres: Cluster, ca: Authority, tmp_path: Path) -> None:
    """`end-sessions` ends what runs within a second of the lease; `refuse-new` refuses; `run-on` notices nothing.

    The lease is lost at once here: control says what cannot be obeyed, and is silent from then on. How long it lasts
    else is test_authority's.
    """
    further = {name: {"lost_lease": name} for name in POLICIES}
    async with Governed(postgres, ca, tmp_path, further=further) as stand, AsyncExitStack() as exits:
        grant = new_grant_id()
        sessions = {
            name: await exits.enter_async_context(
                await stand.log_in(grant if name == "end-sessions" else None, target=name)
            )
            for name in POLICIES
        }
        sessions["end-sessions"].send(query("SELECT pg_sleep(60)"))
        stand.control.silent = True
        lost = time.time()
        stand.control.tell_raw(b'{"type":"obey me"}\n')
        told = (await sessions["end-sessions"].rest())[-1].fields
        assert time.time() < lost + 1
        assert told["C"] == "57P01"
        assert "the proxy has lost contact with the control service" in told["M"]
        assert told["H"].endswith("Connect again once the proxy hears the control service again.")
        for name in ("refuse-new", "run-on"):
            assert await sessions[name].value("SELECT 1") == "1"
        refused = [name for name in POLICIES if await stand.refusal(target=name)]
        assert refused == ["refuse-new", "end-sessions"]
        last = await stand.last(grant)
        assert (last.reason, last.by, last.outcome) == ("lease_lost", None, "rolled back")
        assert last.gone_at is not None
        assert last.gone_at / 1e9 < lost + 1
        stand.control.silent = False
        stand.control.hang_up()
        await eventually(lambda: stand.proxy.ops("/readyz")[0] == 200, within=LEASE_S, what="the lease")
        assert await stand.refusal(target="end-sessions") == {}
