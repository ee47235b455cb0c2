"""What a clock tells of a refusal: nothing (row 41 of PROTOCOL.md)."""

import statistics
import time

from proxy.pace import STEP_S
from tests.attack.forgeries import FORGERIES, Forgery, good
from tests.conftest import MakeProxy
from tests.harness.ports import free_port
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy
from tests.harness.wire import Wire, message, startup

ROUNDS, MOST_ROUNDS = 7, 50
NAMES = ("unknown key", "wrong key", "garbage", "60 kB", "expired", "of somebody else", "for another target")
"""Refused at the key, the signature, the form, the size, the time, the user and the target."""
APART_S = STEP_S / 2
"""What is within this is the machine's noise; the other refusals of a step are a whole one away."""


async def refusal_s(proxy: Proxy, forgery: Forgery) -> float:
    """How long the refusal of one takes, from the token's sending on."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        wire.send(startup(("user", forgery.user), ("database", forgery.database)))
        assert (await wire.read()).kind == "R"
        token = message("p", forgery.make(proxy.signer).encode() + b"\0")
        before = time.perf_counter()
        wire.send(token)
        assert (await wire.read()).fields["C"] == "28P01"
        return time.perf_counter() - before


async def test_refusals_take_the_same_time(guarded: Proxy) -> None:
    """Each cause in turn, over and over: none is answered before the step is over, and the medians are the same.

    On a machine that is busy with other things they may need more rounds to become so.
    """
    forgeries = [one for one in FORGERIES if one.name in NAMES]
    took: dict[str, list[float]] = {name: [] for name in NAMES}
    apart = STEP_S
    while apart >= APART_S and len(took[NAMES[0]]) < MOST_ROUNDS:
        for forgery in forgeries * ROUNDS:
            took[forgery.name].append(await refusal_s(guarded, forgery))
        assert min(map(min, took.values())) > STEP_S - 0.002
        medians = [statistics.median(times) for times in took.values()]
        apart = max(medians) - min(medians)
    assert apart < APART_S, took


async def test_good_tokens_do_not_wait(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """The fastest of some is at PostgreSQL's door (which is shut here, and that is quick) before a refusal is told."""
    proxy = make_proxy(postgres, target={"port": free_port()})
    took: list[float] = []
    while len(took) < MOST_ROUNDS and min(took, default=STEP_S) >= STEP_S:
        async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
            wire.send(startup(("user", "dba1"), ("database", "orders")))
            assert (await wire.read()).kind == "R"
            token = message("p", good(proxy.signer).encode() + b"\0")
            before = time.perf_counter()
            wire.send(token)
            assert (await wire.read()).fields["C"] == "08006"
            took.append(time.perf_counter() - before)
    assert min(took) < STEP_S, took
