"""SCRAM-SHA-256-PLUS: a login that holds for one TLS connection, whoever has a good certificate in between."""

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from proxy.upstream import UpstreamError
from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.keys import Root
from tests.harness.postgres import Cluster
from tests.harness.upstream import SASL, Client
from tests.harness.waiting import eventually
from tests.harness.wire import message
from tests.integration.upstream.interceptor import BOTH_MECHANISMS, hide_binding, interceptor
from tests.integration.upstream.stage import CLEAR, MD5, TRUSTED, after_startup, refused, refused_by
from tests.integration.upstream.targets import dialler_of, log_in, profile_of


@pytest.mark.parametrize("wanted", ["disable", "prefer", "require"])
async def test_direct(postgres: Cluster, tmp_path: Path, wanted: str) -> None:
    """With the real server each of them logs in."""
    dialler = dialler_of(postgres, tmp_path, channel_binding=wanted)
    (await log_in(dialler, profile_of(roles.APP, tmp_path))).close()


@pytest.mark.parametrize("wanted", ["prefer", "require"])
async def test_somebody_in_the_way(
    postgres: Cluster, tmp_path: Path, server_context: ssl.SSLContext, wanted: str
) -> None:
    """A certificate of the right authority for the right name, and yet PostgreSQL refuses what is bound to it (T4)."""
    async with interceptor(postgres, server_context) as between:
        dialler = dialler_of(postgres, tmp_path, port=between.port, channel_binding=wanted)
        with pytest.raises(UpstreamError) as caught:
            await log_in(dialler, profile_of(roles.APP, tmp_path))
        assert (await between.link()).server.position > 0
    assert "SCRAM channel binding check failed" in refused(caught.value)


async def test_somebody_in_the_way_unbound(postgres: Cluster, tmp_path: Path, server_context: ssl.SSLContext) -> None:
    """Without channel binding it would have worked: the test above fails for its own reason."""
    async with interceptor(postgres, server_context, hide_binding) as between:
        dialler = dialler_of(postgres, tmp_path, port=between.port, channel_binding="disable")
        (await log_in(dialler, profile_of(roles.APP, tmp_path))).close()


@pytest.mark.parametrize(
    ("wanted", "why"), [("prefer", "28000|08P01"), ("require", "does not offer SCRAM-SHA-256-PLUS")]
)
async def test_the_offer_taken_away(
    postgres: Cluster, tmp_path: Path, server_context: ssl.SSLContext, wanted: str, why: str
) -> None:
    """Who hides the better mechanism is found out by the server, which is told that we would have bound (`y`)."""
    async with interceptor(postgres, server_context, hide_binding) as between:
        dialler = dialler_of(postgres, tmp_path, port=between.port, channel_binding=wanted)
        with pytest.raises(UpstreamError, match=why) as caught:
            await log_in(dialler, profile_of(roles.APP, tmp_path))
    refused(caught.value)


async def test_unix_socket(postgres: Cluster, tmp_path: Path) -> None:
    """There is no TLS on it to bind to: `prefer` does without, `require` cannot."""
    profile = profile_of(roles.APP, tmp_path)
    host = str(postgres.folder)
    (await log_in(dialler_of(postgres, tmp_path, host=host), profile)).close()
    with pytest.raises(UpstreamError, match="does not offer SCRAM-SHA-256-PLUS"):
        await log_in(dialler_of(postgres, tmp_path, host=host, channel_binding="require"), profile)


async def test_require_needs_it_of_every_method(odd_postgres: Cluster, tmp_path: Path) -> None:
    """Nothing else will do, whatever `require_auth` has, and being let in without a question least of all."""
    everything = {"channel_binding": "require", "require_auth": ["scram-sha-256", "md5", "password", "none"]}
    for login in (CLEAR, MD5, TRUSTED):
        with pytest.raises(UpstreamError, match="channel_binding") as caught:
            await log_in(dialler_of(odd_postgres, tmp_path, **everything), profile_of(login, tmp_path))
        refused(caught.value, login.password)


@pytest.mark.parametrize(
    "root",
    [
        Root(key=ec.generate_private_key(ec.SECP384R1()), hash_=hashes.SHA384()),
        Root(key=rsa.generate_private_key(65_537, 2048), hash_=hashes.SHA512()),
        Root(key=rsa.generate_private_key(65_537, 2048), hash_=hashes.SHA384(), pss=True),
        Root(key=ed25519.Ed25519PrivateKey.generate(), hash_=None),
    ],
    ids=["ecdsa-sha384", "rsa-sha512", "pss-sha384", "ed25519"],
)
async def test_the_hash_is_the_signatures(odd_postgres: Cluster, ca: Authority, tmp_path: Path, root: Root) -> None:
    """RFC 5929 as PostgreSQL has it, for each kind of signature; one without a hash is refused in words."""
    root.server(odd_postgres.data)
    odd_postgres.reload()
    changed = {"ca_file": str(root.write(tmp_path / "root.pem")), "channel_binding": "require"}
    profile = profile_of(roles.APP, tmp_path)

    async def log_in_or_why() -> str:
        try:
            (await log_in(dialler_of(odd_postgres, tmp_path, **changed), profile)).close()
        except UpstreamError as error:
            return "" if "CERTIFICATE_VERIFY_FAILED" in str(error) else refused(error)  # not reloaded yet
        return "logged in"

    try:
        said = await eventually(log_in_or_why)
        assert ("signed without a hash" in said) is (root.hash_ is None)
        assert (said == "logged in") is (root.hash_ is not None)
    finally:
        ca.server(folder=odd_postgres.data)
        odd_postgres.reload()


# Servers that lie about it


async def test_offered_without_tls() -> None:
    """There is nothing to bind to: a server that offers it all the same is none (as libpq has it)."""
    text, _ = await refused_by(after_startup(BOTH_MECHANISMS))
    assert "offers SCRAM-SHA-256-PLUS without TLS" in text


@pytest.mark.parametrize(
    ("wanted", "offer", "flag"),
    [
        ("prefer", message("R", SASL), b"y,,n=,r="),
        ("disable", message("R", SASL), b"n,,n=,r="),
        ("disable", BOTH_MECHANISMS, b"n,,n=,r="),
    ],
    ids=["prefer", "disable", "disable-offered"],
)
async def test_what_the_server_is_told(server_context: ssl.SSLContext, wanted: str, offer: bytes, flag: bytes) -> None:
    """`y` says that we would have bound, had it been offered; `n` that we do not."""

    async def script(client: Client) -> None:
        await client.starts_tls(server_context)
        await client.first_packet()
        client.say(offer)
        await client.answer()
        client.writer.close()

    _, heard = await refused_by(script, sslmode="require", channel_binding=wanted)
    assert b"SCRAM-SHA-256\0" in heard
    assert flag in heard
