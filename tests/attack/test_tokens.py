"""No grant, no connection (DESIGN.md, promise 1): every bad token is refused alike, before PostgreSQL hears of it."""

import pytest

from proxy.contract.record import AuthRefused
from tests.attack.forgeries import FORGERIES, Forgery, good
from tests.harness import roles
from tests.harness.binaries import postgresql_bin
from tests.harness.processes import run
from tests.harness.proxy import Proxy
from tests.harness.serverlog import connections
from tests.harness.wire import Wire, message, startup

REFUSED = {
    "S": "FATAL",
    "V": "FATAL",
    "C": "28P01",
    "M": "access refused: the token is not valid for this connection",
    "H": 'Ask for access with "curfew request", or get a fresh token with "curfew token".',
}


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda forgery: forgery.name)
async def test_refused(forgery: Forgery, guarded: Proxy) -> None:
    """One text for every cause, by wire and by psql; the cause goes to the metric, and to the journal if it may."""
    before = await connections(guarded.cluster)
    token = forgery.make(guarded.signer)
    counted = f'curfew_refused_total{{refusal="{forgery.refusal}"}}'
    refusals, recorded = guarded.metrics().get(counted, 0), refused_records(guarded)
    async with await Wire.tls(guarded.port, guarded.ca.client_context()) as wire:
        wire.send(startup(("user", forgery.user), ("database", forgery.database)))
        assert (await wire.read()).kind == "R"
        wire.send(message("p", token.encode() + b"\0"))
        said = await wire.rest()
    assert [one.kind for one in said] == ["E"]
    assert said[0].fields == REFUSED
    assert guarded.metrics()[counted] == refusals + 1
    fresh = refused_records(guarded)[len(recorded) :]
    assert [one.refusal for one in fresh] == ([forgery.refusal] if forgery.recorded else [])
    if forgery.printable:
        assert psql_says(guarded, token, forgery) == psql_text(guarded)
    assert await connections(guarded.cluster) == before + 1


def refused_records(proxy: Proxy) -> list[AuthRefused]:
    """Every refusal in the journal."""
    return [one for one in proxy.records() if isinstance(one, AuthRefused)]


def psql_says(proxy: Proxy, token: str, forgery: Forgery) -> str:
    """Everything that psql prints when it tries to connect."""
    environment = proxy.psql_env(token, PGUSER=forgery.user, PGDATABASE=forgery.database)
    done = run([postgresql_bin() / "psql", "-X", "-c", "SELECT 1"], environment=environment, check=False)
    assert done.returncode == 2
    return done.stdout + done.stderr


def psql_text(proxy: Proxy) -> str:
    """What that is to be."""
    where = f'connection to server at "127.0.0.1", port {proxy.port} failed'
    return f"psql: error: {where}: FATAL:  {REFUSED['M']}\nHINT:  {REFUSED['H']}\n"


async def test_good_token_is_accepted(guarded: Proxy) -> None:
    """The forgeries are refused for what is wrong with them: the same token with nothing wrong gets in."""
    connection = await guarded.connect(good(guarded.signer))
    assert await connection.fetchval("SELECT current_user") == roles.APP.user
    await connection.close()


async def test_tokens_are_not_logged(guarded: Proxy) -> None:
    """Neither good nor bad ones are in the proxy's log or in its journal."""
    accepted, refused = good(guarded.signer), good(guarded.signer, sub="somebody")
    connection = await guarded.connect(accepted)
    await connection.close()
    psql_says(guarded, refused, FORGERIES[0])
    written = guarded.log().encode() + b"".join(guarded.lines())
    assert b"access refused" in written
    for token in (accepted, refused):
        for part in token.split("."):
            assert part.encode() not in written
