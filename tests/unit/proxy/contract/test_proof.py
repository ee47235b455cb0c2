"""The proof: it holds for exactly one request of one proxy, for a minute."""

import json
from collections.abc import Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from proxy.contract.proof import (
    PROOF_AUDIENCE,
    PROOF_S,
    PROOF_TYPE,
    ProofError,
    issuer_of,
    make,
    public_key,
    public_text,
    verify,
)

NOW = 1_800_000_000.0
KEY = Ed25519PrivateKey.generate()
REQUEST: Mapping[str, Any] = {"method": "POST", "path": "/v1/records?a=1", "body": b"body"}
PROOF = make(KEY, proxy="proxy-1", now=NOW, **REQUEST)
CLAIMS: dict[str, Any] = jwt.decode(PROOF, options={"verify_signature": False})


def check(proof: str, *, key: Ed25519PrivateKey = KEY, now: float = NOW, **changed: object) -> dict[str, Any]:
    """Verify as control does."""
    return verify(proof, key.public_key(), now=now, **{**REQUEST, **changed})


def short(value: object) -> str:
    """A test's id for a value."""
    return ascii(value)[:20]


def signed(claims: Mapping[str, Any], headers: Mapping[str, Any] | None = None) -> str:
    """A proof of any claims."""
    payload = json.dumps(claims).encode()
    return jwt.PyJWS().encode(payload, KEY, algorithm="EdDSA", headers={"typ": PROOF_TYPE, **(headers or {})})


def test_a_proof_holds() -> None:
    """For its own request, and it names its proxy."""
    assert check(PROOF)["iss"] == "proxy-1"
    assert issuer_of(PROOF) == "proxy-1"


def test_every_proof_differs() -> None:
    """So that the second use of one can be told."""
    assert check(PROOF)["jti"] != check(make(KEY, proxy="proxy-1", now=NOW, **REQUEST))["jti"]


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "GET"},
        {"method": "post"},
        {"path": "/v1/records"},
        {"path": "/v1/records?a=2"},
        {"path": "/v1/records?a=1&b=2"},
        {"body": b""},
        {"body": b"body "},
        {"key": Ed25519PrivateKey.generate()},
        {"now": NOW + PROOF_S},
        {"now": NOW - PROOF_S - 1},
        {"now": NOW + 10**9},
    ],
    ids=lambda changed: "key" if "key" in changed else repr(changed),
)
def test_another_request_is_refused(changed: Mapping[str, Any]) -> None:
    """Another method, path, query, body, key or time."""
    with pytest.raises(ProofError):
        check(PROOF, **changed)


NOT_NUMBERS: list[object] = [None, True, "1800000000", [], {}, float("nan"), float("inf"), float("-inf"), 10**400]

NOT_TEXTS: list[object] = [None, 5, [], True, "", "\ud800", "a\0b"]


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        *[(claim, value) for claim in ("iat", "exp") for value in NOT_NUMBERS],
        ("exp", NOW + PROOF_S + 1),
        ("exp", NOW),
        ("iat", NOW - PROOF_S - 1),
        ("aud", "other"),
        ("aud", None),
        *[(claim, value) for claim in ("htm", "htu", "bsh", "jti", "iss") for value in NOT_TEXTS],
        *[(claim, "ä") for claim in ("htm", "htu", "bsh")],
    ],
    ids=short,
)
def test_a_wrong_claim_is_refused(claim: str, value: object) -> None:
    """Signed by the right key, and still no proof; a text that cannot be encoded is no crash."""
    with pytest.raises(ProofError):
        check(signed({**CLAIMS, claim: value}))


@pytest.mark.parametrize("claim", sorted(CLAIMS))
def test_a_missing_claim_is_refused(claim: str) -> None:
    """All of them are needed."""
    with pytest.raises(ProofError):
        check(signed({name: value for name, value in CLAIMS.items() if name != claim}))


@pytest.mark.parametrize(
    "headers", [{"typ": "JWT"}, {"typ": "grant+jwt"}, {"typ": 5}, {"crit": ["exp"]}, {"kid": "x"}], ids=repr
)
def test_another_kind_of_token_is_refused(headers: Mapping[str, Any]) -> None:
    """A grant is no proof, and what asks to be understood is not passed over."""
    with pytest.raises(ProofError):
        check(signed(CLAIMS, headers))


def test_other_algorithms_are_refused() -> None:
    """`alg: none`, and HMAC with the public key as the secret."""
    text = public_text(KEY.public_key())
    unsigned = jwt.PyJWS().encode(json.dumps(CLAIMS).encode(), "", algorithm="none", headers={"typ": PROOF_TYPE})
    hashed = jwt.encode(CLAIMS, text, algorithm="HS256", headers={"typ": PROOF_TYPE})
    for proof in (unsigned, hashed):
        with pytest.raises(ProofError):
            check(proof)


def test_an_issuer_must_be_a_text() -> None:
    """It is looked up in a table of proxies."""
    for value in (5, None, ["proxy-1"], "\ud800"):
        with pytest.raises(ProofError):
            issuer_of(signed({**CLAIMS, "iss": value}))


@given(st.text(st.characters(exclude_categories=[])) | st.text(alphabet="eyJhbGci.-_=0", max_size=200))
def test_no_text_breaks_it(text: str) -> None:
    """ProofError is all that a stranger's header can cause."""
    with pytest.raises(ProofError):
        check(text)
    with pytest.raises(ProofError):
        issuer_of(text)


def test_the_audience_is_control() -> None:
    """Said in the proof itself, so that it is good for nobody else."""
    assert CLAIMS["aud"] == PROOF_AUDIENCE


def test_a_public_key_reads_back() -> None:
    """In 43 characters, without padding."""
    text = public_text(KEY.public_key())
    assert len(text) == 43
    assert public_key(text) == KEY.public_key()


@pytest.mark.parametrize("text", ["", "x", "A" * 42, "A" * 44, "A" * 86, "+" * 43, "ä" * 43, "\ud800", " " + "A" * 43])
def test_what_is_no_public_key_is_an_error(text: str) -> None:
    """Another length, another alphabet."""
    with pytest.raises(ValueError, match=r".*"):
        public_key(text)
