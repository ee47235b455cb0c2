"""Joining, following, the lease, and what a restart knows while control is away."""

import time
from collections.abc import Sequence

import pytest

from proxy import membership
from proxy.contract.directive import AnyDirective, Heartbeat, Keys, Kill, Revocation, Revoke, Snapshot
from proxy.contract.proof import public_text
from proxy.control_link import ControlLinkError
from proxy.identity import load_or_create
from tests.harness.certs import Authority
from tests.harness.waiting import eventually, never
from tests.integration.link.conftest import Proxy
from tests.integration.link.stand_in import JOIN_TOKEN, JWKS, StandIn

OTHER_JWKS = JWKS.replace("k1", "k2")


def kinds(heard: Sequence[AnyDirective]) -> list[type]:
    """What was heard, heartbeats left out."""
    return [type(one) for one in heard if not isinstance(one, Heartbeat)]


def revoke(grant: str, *, cursor: int = 1, lasts_s: float = 3600) -> Revoke:
    """A revocation."""
    return Revoke(cursor=cursor, at=time.time_ns(), grant=grant, expires_at=time.time() + lasts_s, by="eve")


def saved(proxy: Proxy) -> membership.Membership | None:
    """What is on disk."""
    public_key = public_text(load_or_create(proxy.state_dir).public_key())
    return membership.load(proxy.state_dir, proxy="p1", public_key=public_key)


async def test_joins_once_then_follows(control: StandIn, proxy: Proxy) -> None:
    """The first start registers the key; the second needs no join token any more."""
    async with proxy.running() as link:
        await eventually(lambda: link.has_lease)
        assert link.known is not None
        assert (link.known.issuer, link.known.audience, link.known.jwks) == ("https://control.test", "fleet", JWKS)
    assert control.joins == 1
    assert isinstance(proxy.heard[0], Snapshot)
    async with proxy.running(proxy.link(token=None)) as link:
        await eventually(lambda: link.has_lease)
    assert control.joins == 1


async def test_first_start_without_join_token_is_refused(proxy: Proxy) -> None:
    """With the option's name and the command that helps."""
    with pytest.raises(ControlLinkError, match=r"proxy\.control\.join_token.*curfew-control join-token"):
        proxy.link(token=None)


async def test_join_waits_for_control(control: StandIn, proxy: Proxy) -> None:
    """Control is not up yet: the proxy keeps trying, admits nobody, and joins when it is."""
    await control.stop()
    async with proxy.running() as link:
        await never(lambda: link.known or link.has_lease or proxy.heard, during=0.5)
        await control.start()
        await eventually(lambda: link.has_lease)


async def test_join_token_is_read_anew_for_each_attempt(control: StandIn, proxy: Proxy) -> None:
    """A wrong token is refused; the right one in its place works without a restart."""
    tokens = ["wrong"]
    async with proxy.running(proxy.link(token=lambda: tokens[0])) as link:
        await eventually(lambda: control.joins >= 1)
        assert link.known is None
        tokens[0] = JOIN_TOKEN
        await eventually(lambda: link.has_lease)


async def test_directives_arrive_in_order_and_are_kept(control: StandIn, proxy: Proxy) -> None:
    """Each kind reaches the server; revocations, keys and the cursor are on disk afterwards."""
    async with proxy.running() as link:
        await eventually(lambda: control.streams == 1 and link.has_lease)
        control.tell(revoke("grt_1", cursor=1))
        control.tell(Kill(cursor=2, at=1, session="ses_1", by="eve"))
        control.tell(Keys(cursor=3, at=1, jwks=OTHER_JWKS))
        await eventually(lambda: kinds(proxy.heard)[-3:] == [Revoke, Kill, Keys])
        control.cursors.append(3)  # heartbeats say so from now on
    known = saved(proxy)
    assert known is not None
    assert (known.cursor, known.jwks, [one.grant for one in known.revoked]) == (3, OTHER_JWKS, ["grt_1"])


async def test_revocation_is_kept_while_the_link_runs(control: StandIn, proxy: Proxy) -> None:
    """A proxy that dies by kill -9 has it too: it does not wait for an orderly end."""
    async with proxy.running() as link:
        await eventually(lambda: control.streams == 1 and link.has_lease)
        control.tell(revoke("grt_1"))
        await eventually(lambda: [one.grant for one in getattr(saved(proxy), "revoked", ())] == ["grt_1"])


async def test_restart_works_offline(control: StandIn, proxy: Proxy) -> None:
    """Control is away: keys and revocations are told from disk at once, the lease is not there."""
    control.revoked = [Revocation(grant="grt_1", expires_at=time.time() + 3600, by="eve", decided_at=1)]
    async with proxy.running() as link:
        await eventually(lambda: link.has_lease)
    await control.stop()
    proxy.heard.clear()
    async with proxy.running(proxy.link(token=None)) as link:
        await eventually(lambda: proxy.heard)
        told = proxy.heard[0]
        assert isinstance(told, Snapshot)
        assert [one.grant for one in told.revoked] == ["grt_1"]
        assert told.jwks == JWKS
        assert not link.has_lease


async def test_expired_revocations_are_forgotten_and_others_never(control: StandIn, proxy: Proxy) -> None:
    """A snapshot without a revocation (a restored backup) does not give access back."""
    async with proxy.running() as link:
        await eventually(lambda: control.streams == 1 and link.has_lease)
        control.tell(revoke("grt_past", lasts_s=-1))
        control.tell(revoke("grt_1"))
        await eventually(lambda: kinds(proxy.heard)[-2:] == [Revoke, Revoke])
        control.hang_up()
        await eventually(lambda: kinds(proxy.heard).count(Snapshot) == 3)  # the join's own, and one for each stream
    known = saved(proxy)
    assert known is not None
    assert [one.grant for one in known.revoked] == ["grt_1"]


async def test_reconnects_behind_its_cursor_and_keeps_the_lease(control: StandIn, proxy: Proxy) -> None:
    """A broken stream is followed on from the last directive; a lease outlives a short break."""
    async with proxy.running() as link:
        await eventually(lambda: control.streams == 1 and link.has_lease)
        control.cursors[-1] = 7
        await eventually(lambda: link.known is not None and link.known.cursor == 7)
        control.hang_up()
        await eventually(lambda: len(control.cursors) == 2)
        assert control.cursors[1] == 7
        assert link.has_lease


async def test_lease_ends_when_control_is_away_and_comes_back_with_it(control: StandIn, proxy: Proxy) -> None:
    """Nothing heard for lease_s is no lease."""
    async with proxy.running(proxy.link(lease_s=0.5)) as link:
        await eventually(lambda: link.has_lease)
        await control.stop()
        await eventually(lambda: not link.has_lease)
        await control.start()
        await eventually(lambda: link.has_lease)


async def test_silent_stream_loses_the_lease_and_is_left(control: StandIn, proxy: Proxy) -> None:
    """An open socket is no sign of life: without a line for lease_s the proxy dials again."""
    async with proxy.running(proxy.link(lease_s=0.5)) as link:
        await eventually(lambda: link.has_lease)
        control.silent = True
        await eventually(lambda: not link.has_lease)
        await eventually(lambda: len(control.cursors) > 1)
        control.silent = False
        await eventually(lambda: link.has_lease)


async def test_bytes_without_a_newline_are_no_sign_of_life(control: StandIn, proxy: Proxy) -> None:
    """A trickle keeps the socket busy, not the lease."""
    async with proxy.running(proxy.link(lease_s=0.5)) as link:
        await eventually(lambda: link.has_lease)
        control.silent = True

        def trickle() -> bool:
            control.tell_raw(b" ")
            return not link.has_lease and len(control.cursors) > 1

        await eventually(trickle)


@pytest.mark.parametrize(
    "line",
    [b"nonsense\n", b'{"type":"obey","cursor":4,"at":1}\n', b'{"type":"keys","cursor":4,"at":1,"jwks":"{}"}\n'],
)
async def test_directive_that_cannot_be_obeyed_costs_the_lease(control: StandIn, proxy: Proxy, line: bytes) -> None:
    """What control wants is not known, so nothing new is admitted; the cursor stays before it."""
    async with proxy.running() as link:
        await eventually(lambda: control.streams == 1 and link.has_lease)
        control.silent = True
        control.tell_raw(line)
        await eventually(lambda: not link.has_lease)
        await eventually(lambda: len(control.cursors) > 1)
        assert control.cursors[1] == 0
        assert Keys not in kinds(proxy.heard)


async def test_fault_in_the_server_costs_the_lease_and_is_tried_again(control: StandIn, proxy: Proxy) -> None:
    """A directive that could not be carried out does not count as heard."""
    calls = []

    def fail(directive: AnyDirective) -> None:
        if isinstance(directive, Revoke):
            calls.append(directive)
            raise KeyError("says the test")

    async with proxy.running(proxy.link(on_directive=fail)) as link:
        await eventually(lambda: control.streams == 1 and link.has_lease)
        control.silent = True
        control.tell(revoke("grt_1", cursor=5))
        await eventually(lambda: calls and not link.has_lease)
        assert link.known is not None
        assert link.known.revoked == ()


async def test_removed_proxy_is_refused_and_keeps_trying(control: StandIn, proxy: Proxy) -> None:
    """Control does not know the key any more: no lease, no crash."""
    async with proxy.running(proxy.link(lease_s=0.5)) as link:
        await eventually(lambda: link.has_lease)
        key = control.keys.pop("p1")
        control.hang_up()
        await eventually(lambda: not link.has_lease)
        control.keys["p1"] = key
        await eventually(lambda: link.has_lease)


async def test_stranger_with_another_certificate_is_not_spoken_to(
    control: StandIn, proxy: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The join token goes to nobody whose certificate ca_file does not vouch for."""
    proxy.ca_file = str(Authority(tmp_path_factory.mktemp("other")).file)
    async with proxy.running() as link:
        await never(lambda: control.joins or link.known, during=0.5)


async def test_ca_file_that_is_missing_is_named(proxy: Proxy) -> None:
    """The option and the file are in the text."""
    proxy.ca_file = "/nowhere/ca.pem"
    with pytest.raises(ControlLinkError, match=r"proxy\.control\.ca_file: /nowhere/ca\.pem"):
        proxy.link()


async def test_state_of_another_proxy_is_refused(proxy: Proxy) -> None:
    """Another name or another key than at the join means joining again, and the text says how."""
    async with proxy.running() as link:
        await eventually(lambda: link.has_lease)
    with pytest.raises(ControlLinkError, match=r"joined\.json: joined as 'p1'.*join_token"):
        proxy.link(name="p2")
    (proxy.state_dir / "proxy.key").unlink()
    with pytest.raises(ControlLinkError, match=r"joined\.json: joined with another key"):
        proxy.link()
    (proxy.state_dir / membership.FILE).write_text("{")
    with pytest.raises(ControlLinkError, match=r"joined\.json: cannot be read"):
        proxy.link()
