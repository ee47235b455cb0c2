"""What services keep in memory: proofs seen, proxies that are there."""

from control.services import REPLAYS, Presence, ReplayGuard
from proxy.contract.proof import PROOF_S


def test_a_proof_is_admitted_once() -> None:
    """And another proxy's of the same id is another one."""
    guard = ReplayGuard()
    assert guard.admit("a", "1", 0)
    assert not guard.admit("a", "1", 1)
    assert guard.admit("b", "1", 1)


def test_a_proof_is_remembered_for_as_long_as_it_could_hold() -> None:
    """A proof from PROOF_S ahead is good until PROOF_S after its time, twice that by this clock."""
    guard = ReplayGuard()
    assert guard.admit("a", "1", 0)
    assert not guard.admit("a", "1", 2 * PROOF_S - 0.1)
    assert guard.admit("a", "1", 2 * PROOF_S)


def test_the_memory_is_bounded() -> None:
    """A full one admits no more, and is free again after a while; others are not concerned."""
    guard = ReplayGuard()
    assert all(guard.admit("a", str(n), 0) for n in range(REPLAYS))
    assert not guard.admit("a", "one more", 1)
    assert guard.admit("b", "1", 1)
    assert guard.admit("a", "later", 2 * PROOF_S)


def test_a_proxy_is_connected_while_a_stream_is_open() -> None:
    """Also where the next one opens before the last is found dead."""
    presence = Presence()
    presence.opened("a")
    presence.opened("a")
    presence.closed("a")
    assert presence.connected("a")
    presence.closed("a")
    assert not presence.connected("a")
    presence.seen("a", 5)
    assert (presence.last_seen("a"), presence.last_seen("b")) == (5, 0)
