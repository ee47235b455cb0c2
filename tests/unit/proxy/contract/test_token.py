"""Verifying grant tokens: what is good comes back whole, and every other text is refused in one and the same way."""

import base64
import contextlib
import hmac
import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from proxy.contract.grant import EndMode, Grant, Refusal
from proxy.contract.token import (
    CLOCK_LEEWAY_S,
    REASON_BYTES,
    TOKEN_BYTES,
    KeySet,
    TokenRefusedError,
    claims_of,
    verify,
)
from tests.harness import tokens
from tests.harness.tokens import AUDIENCE, ISSUER, Signer

NOW = 1_800_000_000.0
SIGNER = Signer()
GRANT = Grant(
    id="grt_1",
    person="dba1",
    target="orders",
    databases=("*",),
    profile="readonly",
    issued_at=NOW,
    not_before=NOW,
    expires_at=NOW + 600,
)
CLAIMS = claims_of(GRANT, issuer=ISSUER, audience=AUDIENCE)


def read(token: str, *, now: float = NOW, keys: KeySet | None = None) -> Grant:
    """Verify as the proxy does."""
    return verify(token, keys=SIGNER.keys if keys is None else keys, issuer=ISSUER, audience=AUDIENCE, now=now)


def refusal(token: str, *, now: float = NOW, keys: KeySet | None = None) -> Refusal:
    """Why `token` is refused."""
    with pytest.raises(TokenRefusedError) as caught:
        read(token, now=now, keys=keys)
    return caught.value.refusal


def short(value: object) -> str:
    """A test's id for a value."""
    return ascii(value)[:20]


def encode(part: object) -> str:
    """One part of a JWT: JSON (or the bytes given) in base64url."""
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(payload: bytes, header: object = None) -> str:
    """A token with any payload and header at all, and a good signature over them."""
    head = {"alg": "EdDSA", "typ": "grant+jwt", "kid": SIGNER.kid} if header is None else header
    signing_input = f"{encode(head)}.{encode(payload)}"
    assert isinstance(SIGNER.key, Ed25519PrivateKey)
    return f"{signing_input}.{encode(SIGNER.key.sign(signing_input.encode()))}"


# --- what is good


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256"])
def test_a_grant_comes_back_whole(algorithm: str) -> None:
    """All that a token can say is in the grant that it proves."""
    signer = Signer(algorithm=algorithm)
    whole = tokens.grant(
        databases=("orders", "stock"),
        max_sessions=3,
        addresses=("10.0.0.0/8", "2001:db8::/32"),
        certificate="tHUmBprint",
        end=EndMode.FINISH,
        approved_by="boss",
        reason="Ticket 12: größer",
    )
    token = signer.token(whole)
    assert verify(token, keys=signer.keys, issuer=ISSUER, audience=AUDIENCE, now=whole.not_before) == whole


def test_unknown_claims_are_ignored() -> None:
    """A claim that a later version adds takes nothing away."""
    assert read(SIGNER.sign({**CLAIMS, "new": {"a": 1}})) == GRANT


def test_audience_may_be_one_of_several() -> None:
    """`aud` is a text or a list of texts (RFC 7519 4.1.3)."""
    assert read(SIGNER.sign({**CLAIMS, "aud": ["other", AUDIENCE]})) == GRANT


def test_the_reason_is_cut_between_characters() -> None:
    """A long reason travels in part, and the token stays within its bound."""
    longest = tokens.grant(reason="ä" * 500, person="p" * 63, target="t" * 63, profile="a" * 63, approved_by="b" * 63)
    token = SIGNER.token(longest)
    got = verify(token, keys=SIGNER.keys, issuer=ISSUER, audience=AUDIENCE, now=longest.not_before)
    assert got.reason == "ä" * (REASON_BYTES // len(r"\u00e4"))
    assert len(token) <= TOKEN_BYTES


# --- the header


def test_no_algorithm_is_refused() -> None:
    """`alg: none`, with an empty signature."""
    header = {"alg": "none", "typ": "grant+jwt", "kid": SIGNER.kid}
    assert refusal(f"{encode(header)}.{encode(CLAIMS)}.") is Refusal.WRONG_ALGORITHM


@pytest.mark.parametrize("form", [(Encoding.Raw, PublicFormat.Raw), (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)])
def test_hmac_with_the_public_key_is_refused(form: tuple[Encoding, PublicFormat]) -> None:
    """HS256 signed with the public key's bytes as the secret (RFC 8725 2.1)."""
    header = {"alg": "HS256", "typ": "grant+jwt", "kid": SIGNER.kid}
    signing_input = f"{encode(header)}.{encode(CLAIMS)}"
    signature = hmac.digest(SIGNER.key.public_key().public_bytes(*form), signing_input.encode(), "sha256")
    assert refusal(f"{signing_input}.{encode(signature)}") is Refusal.WRONG_ALGORITHM


def test_another_keys_algorithm_is_refused() -> None:
    """The algorithm belongs to the key: an ES256 token that names the Ed25519 key's id."""
    assert refusal(Signer(algorithm="ES256", kid=SIGNER.kid).sign(CLAIMS)) is Refusal.WRONG_ALGORITHM


@pytest.mark.parametrize("typ", ["JWT", "at+jwt", "curfew-proof+jwt", "GRANT+JWT", "", 5, ["grant+jwt"], None])
def test_wrong_type_is_refused(typ: object) -> None:
    """A token made for something else is no grant, whoever signed it (RFC 8725 3.11)."""
    assert refusal(SIGNER.sign(CLAIMS, {"typ": typ})) in {Refusal.WRONG_TYPE, Refusal.MALFORMED}


@pytest.mark.parametrize("kid", ["other", "", 7, None, ["test-key"], {"a": 1}])
def test_unknown_key_is_refused(kid: object) -> None:
    """A key id that is not in the key set, or is no text."""
    header = {"alg": "EdDSA", "typ": "grant+jwt", "kid": kid}
    assert refusal(signed(json.dumps(CLAIMS).encode(), header)) in {Refusal.UNKNOWN_KEY, Refusal.MALFORMED}


def test_missing_key_id_is_refused() -> None:
    """No guessing which key was meant."""
    assert refusal(signed(json.dumps(CLAIMS).encode(), {"alg": "EdDSA", "typ": "grant+jwt"})) is Refusal.UNKNOWN_KEY


@pytest.mark.parametrize(
    "extra",
    [
        {"jku": "https://evil.test/keys"},
        {"x5u": "https://evil.test/cert"},
        {"jwk": SIGNER.jwk},
        {"x5c": ["MII="]},
        {"crit": ["exp"]},
        {"b64": False},
        {"zip": "DEF"},
        {"enc": "A256GCM"},
    ],
    ids=lambda extra: next(iter(extra)),
)
def test_other_headers_are_refused(extra: Mapping[str, Any]) -> None:
    """Nothing is fetched from where a token points, and nothing is passed over that asks to be understood."""
    header = {"alg": "EdDSA", "typ": "grant+jwt", "kid": SIGNER.kid, **extra}
    assert refusal(signed(json.dumps(CLAIMS).encode(), header)) is Refusal.MALFORMED


# --- the signature


def test_another_key_is_refused() -> None:
    """Signed by a key that is not ours, under our key's id."""
    assert refusal(Signer(kid=SIGNER.kid).sign(CLAIMS)) is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize("part", [0, 1, 2])
def test_every_changed_byte_is_noticed(part: int) -> None:
    """No single character of a token may be exchanged for another."""
    parts = SIGNER.sign(CLAIMS).split(".")
    text = parts[part]
    for index, character in enumerate(text):
        other = "A" if character != "A" else "B"
        if part == 2 and index == len(text) - 1:
            continue  # base64's last character has bits that mean nothing
        changed = ".".join([*parts[:part], text[:index] + other + text[index + 1 :], *parts[part + 1 :]])
        with pytest.raises(TokenRefusedError):
            read(changed)


def test_every_truncation_is_refused() -> None:
    """A token that lost its tail, wherever it was cut."""
    token = SIGNER.sign(CLAIMS)
    for length in range(len(token)):
        with pytest.raises(TokenRefusedError):
            read(token[:length])


def test_a_refused_signature_names_no_grant() -> None:
    """A forger does not choose which grant the log speaks of; a token of ours does."""
    with pytest.raises(TokenRefusedError) as forged:
        read(Signer(kid=SIGNER.kid).sign(CLAIMS))
    with pytest.raises(TokenRefusedError) as expired:
        read(SIGNER.sign(CLAIMS), now=NOW + 600)
    with pytest.raises(TokenRefusedError) as nameless:
        read(SIGNER.sign({**CLAIMS, "jti": "\ud800"}))
    assert forged.value.grant_id is None
    assert expired.value.grant_id == "grt_1"
    assert nameless.value.grant_id is None  # it would go into a record, which could not be written


# --- size


def test_oversized_is_refused_before_anything_is_decoded() -> None:
    """1,000 bytes are the most, whatever is in them; characters do not count, bytes do."""
    assert refusal(SIGNER.sign({**CLAIMS, "pad": "x" * TOKEN_BYTES})) is Refusal.OVERSIZED
    assert refusal("a" * (TOKEN_BYTES + 1)) is Refusal.OVERSIZED
    assert refusal("ä" * (TOKEN_BYTES // 2 + 1)) is Refusal.OVERSIZED
    assert refusal("a" * TOKEN_BYTES) is Refusal.MALFORMED


# --- the claims


@pytest.mark.parametrize(
    ("claim", "value", "why"),
    [
        ("iss", "https://other.test", Refusal.WRONG_ISSUER),
        ("iss", None, Refusal.WRONG_ISSUER),
        ("iss", [ISSUER], Refusal.WRONG_ISSUER),
        ("aud", "other", Refusal.WRONG_AUDIENCE),
        ("aud", [], Refusal.WRONG_AUDIENCE),
        ("aud", {AUDIENCE: 1}, Refusal.WRONG_AUDIENCE),
        ("aud", f"{AUDIENCE}x", Refusal.WRONG_AUDIENCE),
        ("aud", None, Refusal.WRONG_AUDIENCE),
        ("v", 2, Refusal.UNKNOWN_VERSION),
        ("v", "1", Refusal.UNKNOWN_VERSION),
        ("v", True, Refusal.UNKNOWN_VERSION),
        ("v", 1.0, Refusal.UNKNOWN_VERSION),
        ("v", None, Refusal.UNKNOWN_VERSION),
        ("nbf", NOW + CLOCK_LEEWAY_S + 1, Refusal.NOT_YET_VALID),
        ("iat", NOW + CLOCK_LEEWAY_S + 1, Refusal.NOT_YET_VALID),
        ("exp", NOW, Refusal.EXPIRED),
        ("exp", NOW - 1, Refusal.EXPIRED),
        ("exp", 0, Refusal.EXPIRED),
        ("end", "soon", Refusal.UNSUPPORTED),
        ("end", ["hard"], Refusal.UNSUPPORTED),
        ("end", None, Refusal.UNSUPPORTED),
    ],
)
def test_a_wrong_claim_is_refused(claim: str, value: object, why: Refusal) -> None:
    """Well signed, and still not for us, not for now, or not of this version."""
    assert refusal(SIGNER.sign({**CLAIMS, claim: value})) is why


TIMES = ("iat", "nbf", "exp")
NOT_TIMES: list[object] = [
    True,
    False,
    None,
    "1800000600",
    [NOW],
    {},
    -1,
    math.nan,
    math.inf,
    -math.inf,
    1e300,
    10**12,
    10**400,
]


@pytest.mark.parametrize("claim", TIMES)
@pytest.mark.parametrize("value", NOT_TIMES, ids=short)
def test_what_is_no_time_is_refused(claim: str, value: object) -> None:
    """NaN compares false with everything and infinity never comes: neither may make a grant last."""
    assert refusal(SIGNER.sign({**CLAIMS, claim: value})) in {
        Refusal.MISSING_CLAIM,
        Refusal.MALFORMED,
    }


def test_the_end_has_no_leeway_and_the_start_has_a_little() -> None:
    """The grant holds until its last moment, and from a little before its first where the clocks differ."""
    token = SIGNER.sign(CLAIMS)
    assert read(token, now=NOW - CLOCK_LEEWAY_S) == GRANT
    assert refusal(token, now=NOW - CLOCK_LEEWAY_S - 0.001) is Refusal.NOT_YET_VALID
    assert read(token, now=NOW + 599.999) == GRANT
    assert refusal(token, now=NOW + 600) is Refusal.EXPIRED


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "jti", "iat", "nbf", "exp", "tgt", "dbs", "acs"])
def test_a_missing_claim_is_refused(claim: str) -> None:
    """Every claim that a grant consists of must be there."""
    claims = {name: value for name, value in CLAIMS.items() if name != claim}
    assert refusal(SIGNER.sign(claims)) is Refusal.MISSING_CLAIM


def test_the_version_may_be_left_out() -> None:
    """The first version's claims need not say so."""
    assert read(SIGNER.sign({name: value for name, value in CLAIMS.items() if name != "v"})) == GRANT


WRONG_FORMS: dict[str, list[object]] = {
    "sub": ["", 5, None, True, ["x"], "a\0b", "x" * 64, "ä" * 32],
    "jti": ["", 5, None, True, ["x"], "a\0b"],
    "tgt": ["", 5, None, True, ["x"], "a\0b", "x" * 64],
    "acs": ["", 5, None, True, ["x"], "a\0b", "x" * 64],
    "dbs": [[], "*", None, [""], [5], [["*"]], ["a\0b"], {"*": 1}],
    "max": [0, -1, True, 1.5, "3", None, [1], 10**30],
    "ips": [[], "10.0.0.0/8", [""], ["10.0.0.1/8"], ["nonsense"], [5], [10], None],
    "cnf": [None, "x", {}, {"x5t#S256": 5}, {"x5t#S256": ""}, [], 5, False],
    "apr": ["", 5, None],
    "rsn": [5, None, ["x"]],
}


@pytest.mark.parametrize(
    ("claim", "value"), [(claim, value) for claim, values in WRONG_FORMS.items() for value in values], ids=short
)
def test_a_claim_of_the_wrong_form_is_refused(claim: str, value: object) -> None:
    """No claim is guessed at, and none that is there is treated as if it were not."""
    assert refusal(SIGNER.sign({**CLAIMS, claim: value})) is Refusal.MISSING_CLAIM


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "jti", "tgt", "acs", "dbs", "rsn", "apr"])
def test_a_lone_surrogate_is_refused(claim: str) -> None:
    r"""`\ud800` is JSON but no text: it can be neither encoded for PostgreSQL nor written to the journal."""
    value: object = ["\ud800"] if claim == "dbs" else "a\ud800"
    assert refusal(SIGNER.sign({**CLAIMS, claim: value})) in {
        Refusal.MISSING_CLAIM,
        Refusal.WRONG_ISSUER,
        Refusal.WRONG_AUDIENCE,
    }


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"5",
        b"{",
        b"\xff\xfe",
        b"{}" * 2,
        b"[" * 500,
        b'{"a":' * 120,
        b'{"exp":1' + b"0" * 500 + b"}",
        json.dumps(CLAIMS).encode("utf-16"),
    ],
    ids=short,
)
def test_a_payload_that_is_no_object_is_refused(payload: bytes) -> None:
    """Well signed nonsense."""
    assert refusal(signed(payload)) in {Refusal.MALFORMED, Refusal.MISSING_CLAIM, Refusal.UNKNOWN_VERSION}


@pytest.mark.parametrize(
    "header",
    [b"", b"null", b"[]", b"5", b"{", b"\xff", b"[" * 700, b'{"alg":["EdDSA"],"typ":"grant+jwt"}'],
    ids=short,
)
def test_a_header_that_is_no_object_is_refused(header: bytes) -> None:
    """Nonsense where the header should be."""
    with pytest.raises(TokenRefusedError):
        read(signed(json.dumps(CLAIMS).encode(), header))


def test_a_repeated_claim_is_refused() -> None:
    """Two values for one name: readers differ on which one counts, so neither does (RFC 8725 2.6, RFC 8259 4)."""
    payload = json.dumps(CLAIMS)[:-1] + ', "sub": "boss"}'
    assert refusal(signed(payload.encode())) is Refusal.MALFORMED


# --- anything at all

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[])),
    lambda inner: st.lists(inner, max_size=3),
)


@given(st.text(st.characters(exclude_categories=[])) | st.text(alphabet="eyJhbGci.-_=0", max_size=200))
def test_no_text_breaks_it(text: str) -> None:
    """Whatever a stranger sends as a password, lone surrogates included, is refused and nothing else happens."""
    with pytest.raises(TokenRefusedError):
        read(text)


@given(st.dictionaries(st.sampled_from([*CLAIMS, "max", "ips", "cnf", "end", "apr", "rsn"]), json_values, max_size=6))
def test_no_claims_break_it(changed: Mapping[str, object]) -> None:
    """A key holder's worst day: any value in any claim is a grant or a refusal."""
    try:
        got = read(signed(json.dumps({**CLAIMS, **changed}).encode()))
    except TokenRefusedError:
        return
    assert got.expires_at > NOW
    assert math.isfinite(got.expires_at)


@given(st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "b64"]), json_values, max_size=4))
def test_no_header_breaks_it(changed: Mapping[str, object]) -> None:
    """Any value in any header is this token or a refusal."""
    header = {"alg": "EdDSA", "typ": "grant+jwt", "kid": SIGNER.kid, **changed}
    with contextlib.suppress(TokenRefusedError):
        assert read(signed(json.dumps(CLAIMS).encode(), header)) == GRANT
