"""SCRAM-SHA-256 by the RFC's own example, and the cache of derived keys."""

import asyncio
import threading

import pytest

from proxy import scram
from proxy.scram import Exchange, KeyCache, Keys, ScramError, prepare

# RFC 7677, section 3
NONCE = b"rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def example() -> Exchange:
    """The RFC's exchange, with its nonce and its user name."""
    exchange = Exchange("pencil", KeyCache())
    exchange._nonce, exchange._first_bare = NONCE, b"n=user,r=" + NONCE
    return exchange


async def test_rfc_7677() -> None:
    """The example's messages, byte for byte."""
    exchange = example()
    assert exchange.first() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert await exchange.final(SERVER_FIRST) == CLIENT_FINAL
    assert not exchange.verified
    exchange.verify(SERVER_FINAL)
    assert exchange.verified


@pytest.mark.parametrize("last", [b"v=" + b"A" * 43 + b"=", SERVER_FINAL[:-2], b"e=invalid-proof", b"", b"v="])
async def test_server_that_does_not_know(last: bytes) -> None:
    """Any other last message leaves the server unverified."""
    exchange = example()
    await exchange.final(SERVER_FIRST)
    with pytest.raises(ScramError):
        exchange.verify(last)
    assert not exchange.verified


def test_last_message_first() -> None:
    """A last message before there was a first one proves nothing."""
    exchange = example()
    with pytest.raises(ScramError):
        exchange.verify(SERVER_FINAL)
    assert not exchange.verified


async def test_second_proof() -> None:
    """A server that asks again gets nothing: with each proof, of a salt it chooses, it could try passwords.

    Found by fuzzing: a thousand of them were given in one login, each with as many iterations as are allowed.
    """
    exchange = example()
    await exchange.final(SERVER_FIRST)
    with pytest.raises(ScramError, match="second proof"):
        await exchange.final(SERVER_FIRST)
    exchange.verify(SERVER_FINAL)


async def test_nonces_differ() -> None:
    """Each exchange has a nonce of its own, with libpq's 18 bytes of chance, and an empty user name."""
    cache = KeyCache()
    firsts = {Exchange("x", cache).first() for _ in range(100)}
    assert len(firsts) == 100
    assert all(first.startswith(b"n,,n=,r=") and len(first) == 8 + 24 for first in firsts)


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("plain", b"plain"),
        ("ctrl\x01\x7f", b"ctrl\x01\x7f"),  # ASCII is left alone, whatever it is
        ("p\u00e4ss", "p\u00e4ss".encode()),
        ("pa\u0308ss", "p\u00e4ss".encode()),  # NFKC composes
        ("\u2168", b"IX"),  # RFC 4013's example
        ("a\u00adb", b"ab"),  # a soft hyphen is mapped to nothing
        ("a\u00a0b", b"a b"),  # a space of another kind
        ("\u00ad", "\u00ad".encode()),  # nothing would be left: as it is
        ("\u0627\u0031", "\u0627\u0031".encode()),  # forbidden by the rule for both directions: as it is
        ("\ue000", "\ue000".encode()),  # for private use: as it is
    ],
)
def test_prepare(password: str, prepared: bytes) -> None:
    """SASLprep as PostgreSQL has it: what cannot be prepared is hashed as it is."""
    assert prepare(password) == prepared


async def test_keys_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal questions are answered from the cache, derived once in a thread even if asked at the same time."""
    threads: list[str] = []
    original = scram._derive

    def derive(password: bytes, salt: bytes, iterations: int) -> Keys:
        threads.append(threading.current_thread().name)
        return original(password, salt, iterations)

    monkeypatch.setattr(scram, "_derive", derive)
    cache = KeyCache()
    first, *others = await asyncio.gather(*(cache.keys(b"password", b"salt", 4096) for _ in range(10)))
    assert all(other is first for other in others)
    assert len(threads) == 1
    assert threads[0] != threading.main_thread().name
    different = [(b"tpassword", b"sal", 4096), (b"password", b"salt", 4097), (b"salt", b"password", 4096)]
    assert len({(await cache.keys(*question)).client for question in different} | {first.client}) == 4
    assert len(threads) == 4


async def test_cache_is_bounded() -> None:
    """The least recently used keys go first."""
    cache = KeyCache(size=2)
    first = await cache.keys(b"1", b"salt", 4096)
    await cache.keys(b"2", b"salt", 4096)
    assert await cache.keys(b"1", b"salt", 4096) is first
    await cache.keys(b"3", b"salt", 4096)
    assert len(cache) == 2
    assert await cache.keys(b"1", b"salt", 4096) is first


async def test_nothing_shows_the_password() -> None:
    """Neither the cache nor a key's representation holds the password or the keys."""
    cache = KeyCache()
    keys = await cache.keys(b"canary-password", b"salt", 4096)
    assert b"canary" not in b"".join(cache._kept)
    assert repr(keys) == "Keys()"


async def test_given_up_while_deriving() -> None:
    """A session that gives up in the middle of a derivation leaves the cache usable."""
    cache = KeyCache()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await cache.keys(b"password", b"salt", 1_000_000)
    assert await cache.keys(b"password", b"salt", 4096) == scram._derive(b"password", b"salt", 4096)
