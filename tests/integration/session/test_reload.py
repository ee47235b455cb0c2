"""SIGHUP: certificates, keys and targets are exchanged under running sessions; what is wrong changes nothing."""

import asyncio
import json
import signal
import time

import pytest

from proxy.contract.record import SessionEnd, decode
from tests.conftest import MakeProxy, Watcher
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.tokens import Signer
from tests.harness.tokens import grant as make_grant
from tests.harness.waiting import eventually
from tests.harness.wire import Refused, Wire


async def reload(proxy: Proxy, says: str = '"configuration reloaded"') -> None:
    """Have the proxy read its configuration again, and wait until it has said so."""
    said = proxy.log().count(says)
    proxy.signal(signal.SIGHUP)
    await eventually(lambda: proxy.log().count(says) > said, what=says)


async def serial(proxy: Proxy) -> str:
    """The number of the certificate that a newcomer is shown."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        return str(wire.certificate["serialNumber"])


async def log_in(proxy: Proxy, token: str, database: str = "orders") -> Wire:
    """A session."""
    wire = await Wire.tls(proxy.port, proxy.ca.client_context())
    try:
        await wire.log_in(token, ("user", "dba1"), ("database", database))
    except BaseException:
        wire.cut()
        raise
    return wire


async def refusal(proxy: Proxy, token: str, database: str = "orders") -> str:
    """The SQLSTATE of a login that is refused."""
    with pytest.raises(Refused) as caught:
        await log_in(proxy, token, database)
    return caught.value.fields["C"]


def rename_target(proxy: Proxy, *, keep: bool) -> None:
    """Configure a second target, `archive`, beside `orders` or in its place."""
    text = proxy.config.read_text()
    start = text.index("[targets.orders")
    renamed = text[start:].replace("targets.orders", "targets.archive")
    proxy.config.write_text(text + renamed if keep else text[:start] + renamed)


async def test_certificate(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """Newcomers see the new one; nobody is disconnected."""
    proxy = make_proxy(postgres)
    before = await serial(proxy)
    async with await log_in(proxy, proxy.token()) as wire:
        proxy.write_config()  # makes a new certificate
        await reload(proxy)
        assert await serial(proxy) != before
        assert await wire.value("SELECT 1") == "1"


async def test_another_target(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """A target that is added is served at once."""
    proxy = make_proxy(postgres)
    token = proxy.token(target="archive")
    assert await refusal(proxy, token, "archive") == "28P01"
    rename_target(proxy, keep=True)
    await reload(proxy)
    async with await log_in(proxy, token, "archive") as one, await log_in(proxy, proxy.token()) as two:
        assert await one.value("SELECT 1") == await two.value("SELECT 1")


async def test_removed_target(make_proxy: MakeProxy, postgres: Cluster, watcher: Watcher) -> None:
    """Its sessions go on until they end, and they still get their verified stop; nobody else gets in."""
    proxy = make_proxy(postgres)
    grant, end = new_grant_id(), time.time() + 2
    token = proxy.signer.token(make_grant(id=grant, profile="app"), exp=end)
    async with await log_in(proxy, token) as wire:
        rename_target(proxy, keep=False)
        await reload(proxy)
        assert await refusal(proxy, proxy.token()) == "28P01"
        assert await wire.value("SELECT 1") == "1"
        assert (await wire.rest())[-1].fields["C"] == "57P01"
    last = decode((await proxy.session_of(grant))[-1])
    assert isinstance(last, SessionEnd)
    assert last.gone_at is not None
    first = next(
        event for event in map(json.loads, proxy.log().splitlines()) if "keeper is connected" in event["event"]
    )

    async def retired() -> bool:
        return not await watcher.fetch("SELECT FROM pg_stat_activity WHERE pid = $1", first["backend"])

    await eventually(retired, what="the end of the removed target's keeper")


async def test_changed_target(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """A session goes on by the way it came, while newcomers go by the new one."""
    proxy = make_proxy(postgres)
    async with await log_in(proxy, proxy.token()) as wire:
        proxy.target = {"port": 1}
        proxy.write_config()
        await reload(proxy)
        assert await refusal(proxy, proxy.token()) == "08006"
        assert await wire.value("SELECT 1") == "1"
        proxy.target = {}
        proxy.write_config()
        await reload(proxy)
        assert await wire.value("SELECT 2") == "2"
        async with await log_in(proxy, proxy.token()) as other:
            assert await other.value("SELECT 3") == "3"


async def test_keys(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """A new key beside the old one counts from then on; with the old one, what it let in goes too."""
    proxy = make_proxy(postgres)
    old, before, file = proxy.token(), proxy.signer, proxy.folder / "jwks.json"
    async with await log_in(proxy, old) as wire:
        proxy.signer = Signer(kid="next")
        file.write_text(json.dumps({"keys": [before.jwk, proxy.signer.jwk]}))
        await reload(proxy)
        async with await log_in(proxy, proxy.token()) as other:
            assert await other.value("SELECT 1") == await wire.value("SELECT 1")
            file.write_text(proxy.signer.jwks)
            await reload(proxy)
            assert await refusal(proxy, old) == "28P01"
            told = (await wire.rest())[-1].fields
            assert (told["C"], "the key that signed your grant was withdrawn" in told["M"]) == ("57P01", True)
            assert await other.value("SELECT 1") == "1"


@pytest.mark.parametrize("wrong", ["not TOML", "unknown key", "no certificate", "no keys"])
async def test_bad_configuration(make_proxy: MakeProxy, postgres: Cluster, wrong: str) -> None:
    """It is said what is wrong, and everything stays as it was."""
    proxy = make_proxy(postgres)
    file, written = {
        "not TOML": (proxy.config, "[proxy\n"),
        "unknown key": (proxy.config, proxy.config.read_text().replace("log_level", "log_levle")),
        "no certificate": (proxy.folder / "proxy.pem", ""),
        "no keys": (proxy.folder / "jwks.json", "{}"),
    }[wrong]
    file.write_text(written)
    async with await log_in(proxy, proxy.token()) as wire:
        await reload(proxy, '"the configuration was not reloaded"')
        assert await wire.value("SELECT 1") == "1"
        async with await log_in(proxy, proxy.token()) as other:
            assert await other.value("SELECT 1") == "1"


async def test_reload_under_load(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """Twenty reloads while sessions come and work: not one of them notices."""
    proxy = make_proxy(postgres)

    async def work() -> None:
        for number in range(20):
            async with await log_in(proxy, proxy.token()) as wire:
                assert await wire.value(f"SELECT {number}") == str(number)

    async def reload_often() -> None:
        for _ in range(20):
            await reload(proxy)

    async with asyncio.timeout(60):
        await asyncio.gather(work(), work(), work(), reload_often())
