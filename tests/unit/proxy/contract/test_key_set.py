"""The key set: public keys that sign grants, each with one algorithm and an id of its own, or an error."""

import json
from collections.abc import Mapping

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from proxy.contract.token import KeySet, KeySetError
from tests.harness.tokens import Signer

SIGNER = Signer()


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256"])
def test_a_key_is_found_by_its_id(algorithm: str) -> None:
    """With the one algorithm that it verifies."""
    signer = Signer(algorithm=algorithm, kid="k1")
    key = signer.keys.get("k1")
    assert key is not None
    assert (key.algorithm, key.key) == (algorithm, signer.key.public_key())
    assert len(signer.keys) == 1
    assert signer.keys.get("k2") is None


@pytest.mark.parametrize(
    "document",
    [
        "",
        "{}",
        "[]",
        "null",
        '{"keys": 5}',
        '{"keys": [5]}',
        '{"keys": [null]}',
        '{"keys": {"a": 1}}',
        json.dumps({"keys": [{**SIGNER.jwk, "x": "short"}]}),
        json.dumps({"keys": [{**SIGNER.jwk, "x": 5}]}),
        json.dumps({"keys": [{name: value for name, value in SIGNER.jwk.items() if name != "x"}]}),
        "[" * 100_000,
    ],
)
def test_an_unusable_key_set_is_an_error(document: str) -> None:
    """A key set is used whole or not at all."""
    with pytest.raises(KeySetError):
        KeySet.from_jwks(document)


@pytest.mark.parametrize(
    "changed",
    [
        {"use": "enc"},
        {"kid": ""},
        {"kid": None},
        {"kid": 5},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": "RSA"},
        {"crv": "Ed448"},
        {"alg": "HS256"},
        {"alg": "none"},
    ],
    ids=repr,
)
def test_keys_of_other_kinds_are_passed_over(changed: Mapping[str, object]) -> None:
    """What signs no grants is not our business: the keys beside it work on."""
    keys = KeySet.from_jwks(json.dumps({"keys": [{**SIGNER.jwk, "kid": "x", **changed}, SIGNER.jwk]}))
    assert len(keys) == 1
    assert keys.get(SIGNER.kid) is not None
    assert keys.get("x") is None


def test_a_private_key_in_a_key_set_is_an_error() -> None:
    """Somebody published the signing key: verifying with it would hide that."""
    assert isinstance(SIGNER.key, Ed25519PrivateKey)
    private = json.loads(OKPAlgorithm.to_jwk(SIGNER.key))
    with pytest.raises(KeySetError, match="private"):
        KeySet.from_jwks(json.dumps({"keys": [{**private, "kid": "x"}]}))


def test_two_keys_with_one_id_are_an_error() -> None:
    """Which of them verifies must not depend on their order."""
    with pytest.raises(KeySetError, match="test-key"):
        KeySet.from_jwks(json.dumps({"keys": [SIGNER.jwk, Signer(kid=SIGNER.kid).jwk]}))
