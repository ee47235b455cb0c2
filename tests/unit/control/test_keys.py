"""Signing: tokens that the lock opens with, key files, the JWK set."""

import json
from dataclasses import replace
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control.domain.grants import Grant
from control.domain.keyring import SigningKey
from control.domain.results import Failure, Reason, Success
from control.domain.texts import postgres_name
from control.keys import KeyRing, KeyRingError, Signer, jwks, thumbprint
from control.times import SECOND
from proxy.contract.proof import public_text
from proxy.contract.token import TOKEN_BYTES, KeySet, TokenRefusedError, verify

NOW = 1_800_000_000 * SECOND
GRANT = Grant(
    id="grt_0123456789abcdef",
    request="req_1",
    person="ada",
    target="orders",
    profile="readonly",
    databases=("shop",),
    starts_at=NOW,
    expires_at=NOW + 600 * SECOND,
    approved_by="carol",
    reason="look at an order",
    max_sessions=3,
    addresses=("10.0.0.0/8",),
)


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    """An empty ring."""
    return KeyRing(tmp_path / "keys")


@pytest.fixture
def key(ring: KeyRing) -> SigningKey:
    """A key in it."""
    return ring.create(now=NOW, active_from=NOW)


@pytest.fixture
def signer(ring: KeyRing) -> Signer:
    """Signs with it."""
    return Signer(ring, issuer="https://c", audience="fleet")


def test_the_thumbprint_is_rfc_8037s() -> None:
    """The example of RFC 8037 appendix A.3."""
    x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert thumbprint(x) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_token_opens_the_lock(signer: Signer, key: SigningKey) -> None:
    """The proxy's verification makes the same grant of it."""
    signed = signer.sign(GRANT, key, NOW)
    assert isinstance(signed, Success)
    signer.check(signed.value, key, NOW)
    keys = KeySet.from_jwks(jwks([key], NOW))
    grant = verify(signed.value, keys=keys, issuer="https://c", audience="fleet", now=NOW / SECOND)
    assert grant == GRANT.to_sign(NOW)
    assert jwt.get_unverified_header(signed.value) == {"alg": "EdDSA", "typ": "grant+jwt", "kid": key.kid}


def test_the_self_check_finds_a_token_of_another_key(signer: Signer, key: SigningKey, ring: KeyRing) -> None:
    """It is a real one."""
    other = ring.create(now=NOW, active_from=NOW)
    signed = signer.sign(GRANT, other, NOW)
    assert isinstance(signed, Success)
    with pytest.raises(TokenRefusedError):
        signer.check(signed.value, key, NOW)


def test_a_long_reason_gives_way(signer: Signer, key: SigningKey) -> None:
    """It is in the books; the token has to fit."""
    wide = replace(GRANT, reason="é" * 60, person="é" * 31, databases=tuple(letter * 55 for letter in "vwxyz"))
    signed = signer.sign(wide, key, NOW)
    assert isinstance(signed, Success)
    assert len(signed.value) <= TOKEN_BYTES
    claims = jwt.decode(signed.value, options={"verify_signature": False})
    assert "rsn" not in claims
    assert claims["sub"] == "é" * 31


def test_too_long_a_token_is_not_issued(signer: Signer, key: SigningKey) -> None:
    """And the answer says what to do."""
    refused = signer.sign(replace(GRANT, databases=tuple(f"{n:063}" for n in range(16))), key, NOW)
    assert isinstance(refused, Failure)
    assert refused.reason is Reason.TOKEN_TOO_LONG
    assert "fewer databases" in refused.detail


names = st.text(max_size=63).filter(lambda text: isinstance(postgres_name(text, ""), Success))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(person=names, reason=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_every_token_that_is_issued_verifies(signer: Signer, key: SigningKey, person: str, reason: str) -> None:
    """Whatever the name and the reason hold."""
    signed = signer.sign(replace(GRANT, person=person, reason=reason), key, NOW)
    if isinstance(signed, Success):
        assert len(signed.value.encode()) <= TOKEN_BYTES
        signer.check(signed.value, key, NOW)


def test_key_files_are_the_owners_alone(ring: KeyRing, key: SigningKey, tmp_path: Path) -> None:
    """The folder, and every file in it; nothing is left of the writing."""
    files = list((tmp_path / "keys").iterdir())
    assert [file.name for file in files] == [f"{key.kid}.pem"]
    assert files[0].stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert public_text(ring.load(key).public_key()) == key.x


def test_a_key_is_found_again(key: SigningKey, tmp_path: Path) -> None:
    """By another process."""
    assert public_text(KeyRing(tmp_path / "keys").load(key).public_key()) == key.x


def test_a_key_that_others_can_read_is_refused(key: SigningKey, tmp_path: Path) -> None:
    """It says which file and what to do."""
    path = tmp_path / "keys" / f"{key.kid}.pem"
    path.chmod(0o640)
    with pytest.raises(KeyRingError, match=r"pem: others can read .* rotate"):
        KeyRing(tmp_path / "keys").load(key)


def _another_kind() -> bytes:
    private = generate_private_key(SECP256R1())
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize("content", [b"", b"garbage", _another_kind()])
def test_a_damaged_key_is_refused(key: SigningKey, tmp_path: Path, content: bytes) -> None:
    """Empty, no key, a key of another kind."""
    (tmp_path / "keys" / f"{key.kid}.pem").write_bytes(content)
    with pytest.raises(KeyRingError, match="not "):
        KeyRing(tmp_path / "keys").load(key)


def test_a_swapped_key_is_refused(ring: KeyRing, key: SigningKey, tmp_path: Path) -> None:
    """A good key under another's name would sign what nobody verifies."""
    other = ring.create(now=NOW, active_from=NOW)
    folder = tmp_path / "keys"
    (folder / f"{key.kid}.pem").write_bytes((folder / f"{other.kid}.pem").read_bytes())
    with pytest.raises(KeyRingError, match="not the key that its name says"):
        KeyRing(folder).load(key)


def test_a_missing_key_is_refused(ring: KeyRing, key: SigningKey, tmp_path: Path) -> None:
    """Also after it was removed from the ring."""
    ring.remove(key.kid)
    with pytest.raises(KeyRingError, match="No such file"):
        ring.load(key)
    assert not list((tmp_path / "keys").iterdir())


def test_the_jwk_set_has_public_halves_only(key: SigningKey) -> None:
    """No `d`, and what a verifier needs."""
    (entry,) = json.loads(jwks([key], NOW))["keys"]
    assert entry == {"kty": "OKP", "crv": "Ed25519", "x": key.x, "kid": key.kid, "use": "sig", "alg": "EdDSA"}


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """A file is where the folder should be."""
    (tmp_path / "keys").write_text("")
    with pytest.raises(KeyRingError, match="cannot keep a signing key"):
        KeyRing(tmp_path / "keys").create(now=NOW, active_from=NOW)
