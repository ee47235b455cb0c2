"""The grant token: its claims, its key set and its verification.

A token is a JWT signed by control (DESIGN.md 4.1). Verification follows RFC 8725: the algorithm belongs to the key and
not to the header, the type is explicit, no key is ever fetched from where a token points, and the size is capped before
anything is decoded. Signing lives in `control.keys`; this module never holds a private key.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm

from proxy.contract.grant import NAME_BYTES, EndMode, Grant, Refusal, parse_network

TOKEN_TYPE = "grant+jwt"  # noqa: S105 a media type, not a secret
TOKEN_BYTES = 1_000
"""A token is at most this long, so that it survives a terminal's prompt (psql reads at most 4,095 bytes there)."""
TOKEN_VERSION = 1
REASON_BYTES = 120
"""The person's reason travels along, cut to this many bytes; control keeps it whole."""
CLOCK_LEEWAY_S = 2
"""How far in the future a token's start may lie: clocks of one site differ a little. The end has no leeway."""

ALGORITHMS: Mapping[str, type[Ed25519PublicKey | EllipticCurvePublicKey]] = {
    "EdDSA": Ed25519PublicKey,
    "ES256": EllipticCurvePublicKey,
}


class TokenRefusedError(Exception):
    """The token is not accepted. `grant_id` is set only where the signature was good."""

    def __init__(self, refusal: Refusal, detail: str = "", *, grant_id: str | None = None) -> None:
        super().__init__(f"{refusal}: {detail}" if detail else str(refusal))
        self.refusal = refusal
        self.grant_id = grant_id


class KeySetError(Exception):
    """A JWK set that cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyingKey:
    """One public key and the only algorithm it verifies."""

    kid: str
    algorithm: str
    key: Ed25519PublicKey | EllipticCurvePublicKey


class KeySet:
    """Public keys by key id (RFC 7517), each bound to one algorithm."""

    def __init__(self, keys: Iterable[VerifyingKey]) -> None:
        self._keys = {key.kid: key for key in keys}

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, kid: str) -> VerifyingKey | None:
        """The key named `kid`, if it is here."""
        return self._keys.get(kid)

    @classmethod
    def from_jwks(cls, document: bytes | str) -> "KeySet":
        """Read a JWK set. Keys of kinds that sign no grants are passed over. Raises KeySetError."""
        try:
            entries = json.loads(document)["keys"]
            return cls(key for entry in entries if (key := _verifying_key(entry)) is not None)
        except (ValueError, KeyError, TypeError, jwt.PyJWTError) as error:
            raise KeySetError(f"not a usable JWK set: {error}") from error


def _verifying_key(entry: Mapping[str, Any]) -> VerifyingKey | None:
    kid = entry.get("kid")
    if not isinstance(kid, str) or not kid or entry.get("use", "sig") != "sig":
        return None
    kind = (entry.get("kty"), entry.get("crv"))
    if kind == ("OKP", "Ed25519"):
        okp = OKPAlgorithm.from_jwk(json.dumps(entry))
        return VerifyingKey(kid=kid, algorithm="EdDSA", key=okp) if isinstance(okp, Ed25519PublicKey) else None
    if kind == ("EC", "P-256"):
        ec = ECAlgorithm.from_jwk(json.dumps(entry))
        return VerifyingKey(kid=kid, algorithm="ES256", key=ec) if isinstance(ec, EllipticCurvePublicKey) else None
    return None


def verify(token: str, *, keys: KeySet, issuer: str, audience: str, now: float) -> Grant:
    """The grant that `token` proves at `now` (seconds since the epoch). Raises TokenRefusedError.

    Only what the token itself can show is checked here; `Grant.refuses` judges the connection that carries it.
    """
    if len(token.encode("utf-8", "replace")) > TOKEN_BYTES:
        raise TokenRefusedError(Refusal.OVERSIZED)
    key = _key_for(token, keys)
    claims = _signed_claims(token, key)
    grant_id = claims.get("jti") if isinstance(claims.get("jti"), str) else None
    try:
        _check_claims(claims, issuer=issuer, audience=audience, now=now)
        return _grant(claims)
    except TokenRefusedError as error:
        error.grant_id = grant_id
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise TokenRefusedError(Refusal.MISSING_CLAIM, str(error), grant_id=grant_id) from error


def _key_for(token: str, keys: KeySet) -> VerifyingKey:
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError as error:
        raise TokenRefusedError(Refusal.MALFORMED) from error
    if header.get("typ") != TOKEN_TYPE:
        raise TokenRefusedError(Refusal.WRONG_TYPE)
    if not header.keys() <= {"alg", "typ", "kid"}:
        # RFC 8725 3.10 and 3.11: no jku, x5u, jwk; nothing that asks for a meaning we do not have (crit).
        raise TokenRefusedError(Refusal.MALFORMED, "unexpected header")
    key = keys.get(header["kid"]) if isinstance(header.get("kid"), str) else None
    if key is None:
        raise TokenRefusedError(Refusal.UNKNOWN_KEY)
    if header.get("alg") != key.algorithm:
        raise TokenRefusedError(Refusal.WRONG_ALGORITHM)
    return key


def _signed_claims(token: str, key: VerifyingKey) -> dict[str, Any]:
    unchecked = dict.fromkeys(("verify_exp", "verify_nbf", "verify_iat", "verify_aud", "verify_iss"), False)
    options = {"verify_signature": True, **unchecked, "verify_sub": False, "verify_jti": False}
    try:
        return jwt.decode(token, key.key, algorithms=[key.algorithm], options=options)  # type: ignore[arg-type]
    except jwt.InvalidSignatureError as error:
        raise TokenRefusedError(Refusal.BAD_SIGNATURE) from error
    except jwt.PyJWTError as error:
        raise TokenRefusedError(Refusal.MALFORMED) from error


def _check_claims(claims: Mapping[str, Any], *, issuer: str, audience: str, now: float) -> None:
    if claims.get("v", TOKEN_VERSION) != TOKEN_VERSION:
        raise TokenRefusedError(Refusal.UNKNOWN_VERSION)
    if claims["iss"] != issuer:
        raise TokenRefusedError(Refusal.WRONG_ISSUER)
    audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    if audience not in audiences:
        raise TokenRefusedError(Refusal.WRONG_AUDIENCE)
    if _seconds(claims, "nbf") > now + CLOCK_LEEWAY_S or _seconds(claims, "iat") > now + CLOCK_LEEWAY_S:
        raise TokenRefusedError(Refusal.NOT_YET_VALID)
    if _seconds(claims, "exp") <= now:
        raise TokenRefusedError(Refusal.EXPIRED)


def _grant(claims: Mapping[str, Any]) -> Grant:
    end = claims.get("end", EndMode.HARD)
    if end not in set(EndMode):
        raise TokenRefusedError(Refusal.UNSUPPORTED, "end mode")
    confirmation = claims.get("cnf")
    return Grant(
        id=_text(claims, "jti"),
        person=_name(claims, "sub"),
        target=_name(claims, "tgt"),
        databases=_texts(claims, "dbs"),
        profile=_name(claims, "acs"),
        issued_at=_seconds(claims, "iat"),
        not_before=_seconds(claims, "nbf"),
        expires_at=_seconds(claims, "exp"),
        max_sessions=_count(claims, "max") if "max" in claims else None,
        addresses=tuple(parse_network(text) for text in _texts(claims, "ips")) if "ips" in claims else (),
        certificate=None if confirmation is None else _text(confirmation, "x5t#S256"),
        end=EndMode(end),
        approved_by=_text(claims, "apr") if "apr" in claims else None,
        reason=_text(claims, "rsn") if "rsn" in claims else None,
    )


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims[name]
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"{name} is not a text")
    return value


def _name(claims: Mapping[str, Any], name: str) -> str:
    value = _text(claims, name)
    if len(value.encode()) > NAME_BYTES:
        raise ValueError(f"{name} is longer than {NAME_BYTES} bytes")
    return value


def _texts(claims: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = claims[name]
    if not isinstance(values, list) or not values:
        raise ValueError(f"{name} is not a list of texts")
    return tuple(_text({name: value}, name) for value in values)


def _seconds(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is not a number")
    return float(value)


def _count(claims: Mapping[str, Any], name: str) -> int:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is not a positive count")
    return value


def claims_of(grant: Grant, *, issuer: str, audience: str) -> dict[str, Any]:
    """The claims that `verify` turns back into `grant`, for the signer. The reason is cut to REASON_BYTES."""
    claims: dict[str, Any] = {
        "v": TOKEN_VERSION,
        "iss": issuer,
        "aud": audience,
        "sub": grant.person,
        "jti": grant.id,
        "iat": int(grant.issued_at),
        "nbf": int(grant.not_before),
        "exp": int(grant.expires_at),
        "tgt": grant.target,
        "dbs": list(grant.databases),
        "acs": grant.profile,
    }
    if grant.max_sessions is not None:
        claims["max"] = grant.max_sessions
    if grant.addresses:
        claims["ips"] = [str(network) for network in grant.addresses]
    if grant.certificate is not None:
        claims["cnf"] = {"x5t#S256": grant.certificate}
    if grant.end is not EndMode.HARD:
        claims["end"] = grant.end.value
    if grant.approved_by is not None:
        claims["apr"] = grant.approved_by
    if grant.reason:
        claims["rsn"] = grant.reason.encode()[:REASON_BYTES].decode("utf-8", "ignore")
    return claims
