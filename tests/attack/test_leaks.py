"""Secrets stay where they are (PROTOCOL.md, T14): passwords, tokens and cancel keys, whatever happens around them."""

from pathlib import Path

import pytest

from tests.conftest import MakeProxy
from tests.harness import roles
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy
from tests.harness.wire import Refused, Wire, cancel_request

QUESTIONS = (
    "SELECT * FROM pg_stat_activity",
    "SHOW ALL",
    "SELECT * FROM pg_stat_ssl",
    "SELECT * FROM pg_settings",
    "SELECT * FROM pg_shadow",
    "SELECT * FROM pg_authid",
    "SELECT * FROM pg_user_mappings",
    "SELECT * FROM pg_hba_file_rules",
    "SELECT pg_read_file('pg_hba.conf')",
    "SELECT current_setting('curfew.token', true)",
)


async def used(proxy: Proxy) -> tuple[list[bytes], bytes]:
    """Use it well and badly: the secrets that it saw, and everything that it and PostgreSQL said."""
    secrets = [login.password.encode() for login in (roles.APP, roles.KEEPER)]
    good, bad = proxy.token(), proxy.token(person="somebody")
    said = []
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(good)
        secrets += [wire.secret, wire.secret.hex().encode(), str(int.from_bytes(wire.secret)).encode()]
        for question in QUESTIONS:
            said += [one.body for one in await wire.run(question)]
        async with await Wire.plain(proxy.port) as other:
            other.send(cancel_request(wire.pid, wire.secret))
            await other.rest()
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        with pytest.raises(Refused) as caught:
            await wire.log_in(bad)
        said.append(str(caught.value.fields).encode())
    return [*secrets, *(part.encode() for token in (good, bad) for part in token.split("."))], b"".join(said)


async def test_nothing_tells_a_secret(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """Not the log, with every detail in it; not the journal, the metrics, the process's own papers, nor PostgreSQL."""
    proxy = make_proxy(postgres, options={"log_level": "debug"})
    secrets, said = await used(proxy)
    (proxy.folder / f"{roles.APP.user}.password").write_text("another-password\n")
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        with pytest.raises(Refused) as caught:
            await wire.log_in(proxy.token())
    said += str(caught.value.fields).encode()
    assert proxy.process is not None
    papers = [Path(f"/proc/{proxy.process.pid}/{name}").read_bytes() for name in ("environ", "cmdline")]
    told = b"\n".join([proxy.log().encode(), *proxy.lines(), proxy.ops("/metrics")[1].encode(), said, *papers])
    assert b"session.start" in told
    assert b"refused" in told
    for secret in [*secrets, b"another-password"]:
        assert secret not in told


async def test_state_is_closed_to_others(proxy: Proxy) -> None:
    """The journal, which has every statement, and the signing key: for the proxy's own user alone."""
    files = [path for path in proxy.state.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"proxy.key"}
    assert [path for path in [proxy.state, *proxy.state.rglob("*")] if path.stat().st_mode & 0o077] == []
