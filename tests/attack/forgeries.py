"""Tokens that must not be accepted, each with the reason that the proxy keeps to itself."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from proxy.contract.grant import Refusal
from proxy.contract.token import TOKEN_TYPE, claims_of
from tests.harness.proxy import new_grant_id
from tests.harness.tokens import AUDIENCE, ISSUER, Signer, grant

HOUR = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgery:
    """One bad token, and the connection that it is shown on."""

    name: str
    make: Callable[[Signer], str]
    refusal: Refusal
    user: str = "dba1"
    database: str = "orders"
    recorded: bool = False
    """Its signature is good, so that the journal may name the grant."""
    printable: bool = field(default=True)
    """Whether libpq sends it at all."""


def good(signer: Signer, **changed: Any) -> str:  # noqa: ANN401 any claim
    """A good token but for `changed` claims; a claim changed to `...` is left out."""
    claims = claims_of(grant(id=new_grant_id(), profile="app"), issuer=ISSUER, audience=AUDIENCE) | changed
    return signer.sign({name: value for name, value in claims.items() if value is not ...})


def _claim(name: str, refusal: Refusal, **changed: Any) -> Forgery:  # noqa: ANN401 any claim
    return Forgery(name=name, make=lambda signer: good(signer, **changed), refusal=refusal, recorded=True)


def _header(name: str, refusal: Refusal, **headers: Any) -> Forgery:  # noqa: ANN401 any header
    def make(signer: Signer) -> str:
        claims = claims_of(grant(profile="app"), issuer=ISSUER, audience=AUDIENCE)
        return signer.sign(claims, headers)

    return Forgery(name=name, make=make, refusal=refusal)


def _later(seconds: float) -> int:
    return int(grant().issued_at + seconds)


def _times(name: str, refusal: Refusal, **seconds: float) -> Forgery:
    def make(signer: Signer) -> str:
        return good(signer, **{claim: _later(after) for claim, after in seconds.items()})

    return Forgery(name=name, make=make, refusal=refusal, recorded=True)


def _encoded(value: Mapping[str, Any] | bytes) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unsigned(algorithm: str) -> Callable[[Signer], str]:
    def make(signer: Signer) -> str:
        payload = good(signer).split(".")[1]
        return f"{_encoded({'alg': algorithm, 'typ': TOKEN_TYPE, 'kid': signer.kid})}.{payload}."

    return make


def _public_key_as_secret(form: Callable[[Ed25519PublicKey, Signer], bytes]) -> Callable[[Signer], str]:
    """The classic confusion (RFC 8725, 2.1): an HMAC whose key everybody knows."""

    def make(signer: Signer) -> str:
        public = signer.key.public_key()
        assert isinstance(public, Ed25519PublicKey)
        head = _encoded({"alg": "HS256", "typ": TOKEN_TYPE, "kid": signer.kid})
        signed = f"{head}.{good(signer).split('.')[1]}"
        return f"{signed}.{_encoded(hmac.digest(form(public, signer), signed.encode(), hashlib.sha256))}"

    return make


def _pem(public: Ed25519PublicKey, _: Signer) -> bytes:
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _raw(public: Ed25519PublicKey, _: Signer) -> bytes:
    return public.public_bytes_raw()


def _jwk(_: Ed25519PublicKey, signer: Signer) -> bytes:
    return json.dumps(signer.jwk).encode()


def _changed_payload(signer: Signer) -> str:
    head, _, signature = good(signer, sub="somebody").split(".")
    return f"{head}.{good(signer).split('.')[1]}.{signature}"


FORGERIES = (
    Forgery(name="wrong key", make=lambda _: good(Signer()), refusal=Refusal.BAD_SIGNATURE),
    Forgery(name="unknown key", make=lambda _: good(Signer(kid="other")), refusal=Refusal.UNKNOWN_KEY),
    Forgery(name="wrong kind of key", make=lambda _: good(Signer(algorithm="ES256")), refusal=Refusal.WRONG_ALGORITHM),
    Forgery(name="another token's signature", make=_changed_payload, refusal=Refusal.BAD_SIGNATURE),
    Forgery(name="alg none", make=_unsigned("none"), refusal=Refusal.WRONG_ALGORITHM),
    Forgery(name="alg None", make=_unsigned("None"), refusal=Refusal.WRONG_ALGORITHM),
    Forgery(name="no signature", make=_unsigned("EdDSA"), refusal=Refusal.BAD_SIGNATURE),
    Forgery(name="HS256 with the PEM", make=_public_key_as_secret(_pem), refusal=Refusal.WRONG_ALGORITHM),
    Forgery(name="HS256 with the raw key", make=_public_key_as_secret(_raw), refusal=Refusal.WRONG_ALGORITHM),
    Forgery(name="HS256 with the JWK", make=_public_key_as_secret(_jwk), refusal=Refusal.WRONG_ALGORITHM),
    _header("wrong typ", Refusal.WRONG_TYPE, typ="JWT"),
    _header("jku", Refusal.MALFORMED, jku="https://evil.test/jwks.json"),
    _header("jwk", Refusal.MALFORMED, jwk=Signer().jwk),
    _header("crit", Refusal.MALFORMED, crit=["exp"]),
    _header("kid as a path", Refusal.UNKNOWN_KEY, kid="../../etc/passwd"),
    _claim("wrong aud", Refusal.WRONG_AUDIENCE, aud="another fleet"),
    _claim("wrong iss", Refusal.WRONG_ISSUER, iss="https://evil.test"),
    _claim("wrong sub", Refusal.WRONG_SUBJECT, sub="dba2"),
    _claim("wrong target", Refusal.WRONG_TARGET, tgt="payroll"),
    _claim("wrong database", Refusal.WRONG_DATABASE, dbs=["archive"]),
    _claim("wrong address", Refusal.WRONG_ADDRESS, ips=["192.0.2.0/24"]),
    _claim("client certificate", Refusal.WRONG_CERTIFICATE, cnf={"x5t#S256": "AAAA"}),
    _claim("unknown profile", Refusal.UNKNOWN_PROFILE, acs="root"),
    _claim("end mode of a later version", Refusal.UNSUPPORTED, end="never"),
    _claim("unknown version", Refusal.UNKNOWN_VERSION, v=2),
    _claim("no end", Refusal.MISSING_CLAIM, exp=...),
    _claim("end as text", Refusal.MISSING_CLAIM, exp="9999999999"),
    _claim("NUL in a name", Refusal.MISSING_CLAIM, sub="dba1\0admin"),
    _times("expired", Refusal.EXPIRED, exp=-1),
    _times("not yet valid", Refusal.NOT_YET_VALID, nbf=HOUR, exp=2 * HOUR),
    _times("issued in the future", Refusal.NOT_YET_VALID, iat=HOUR, exp=2 * HOUR),
    Forgery(name="of somebody else", make=good, user="dba2", refusal=Refusal.WRONG_SUBJECT, recorded=True),
    Forgery(name="for another target", make=good, database="payroll", refusal=Refusal.WRONG_TARGET, recorded=True),
    Forgery(
        name="for another database",
        make=lambda signer: good(signer, dbs=["postgres"]),
        database="orders/template1",
        refusal=Refusal.WRONG_DATABASE,
        recorded=True,
    ),
    Forgery(name="oversized", make=lambda signer: good(signer, pad="x" * 1000), refusal=Refusal.OVERSIZED),
    Forgery(name="truncated", make=lambda signer: good(signer)[:-10], refusal=Refusal.BAD_SIGNATURE),
    Forgery(name="half", make=lambda signer: good(signer)[:150], refusal=Refusal.MALFORMED),
    Forgery(name="garbage", make=lambda _: "correct horse battery staple", refusal=Refusal.MALFORMED),
    Forgery(name="beyond ASCII", make=lambda signer: good(signer) + "é", refusal=Refusal.MALFORMED),
    Forgery(name="dots", make=lambda _: "..", refusal=Refusal.MALFORMED),
    Forgery(name="a terminal's escapes", make=lambda _: "\x1b[2J\x1b]0;x\x07", refusal=Refusal.MALFORMED),
    Forgery(name="empty", make=lambda _: "", refusal=Refusal.MALFORMED, printable=False),
    Forgery(name="60 kB", make=lambda _: "x" * 60_000, refusal=Refusal.OVERSIZED),
)
