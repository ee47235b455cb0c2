"""The grant token: its claims, its key set and its verification.

A token is a JWT signed by control (DESIGN.md 4.1). Verification follows RFC 8725: the algorithm belongs to the key and
not to the header, the type is explicit, no key is ever fetched from where a token points, and the size is capped before
anything is decoded. Signing lives in `control.keys`; this module never holds a private key.
"""

import json
import math
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
"""The person's reason travels along, cut to this many bytes as JSON spells it; control keeps it whole."""
CLOCK_LEEWAY_S = 2
"""How far in the future a token's start may lie: clocks of one site differ a little. The end has no leeway."""
LAST_SECOND = 253_402_300_799
"""9999-12-31 23:59:59 UTC, the last that a calendar here can name. A later end would break whoever shows it."""
MAX_COUNT = 1_000_000

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
        """Raises KeySetError where two keys have one id: which of them verifies must not depend on their order."""
        self._keys: dict[str, VerifyingKey] = {}
        for key in keys:
            if key.kid in self._keys:
                raise KeySetError(f"two keys have the id {key.kid!r}")
            self._keys[key.kid] = key

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, kid: str) -> VerifyingKey | None:
        """The key named `kid`, if it is here."""
        return self._keys.get(kid)

    def holds(self, key: VerifyingKey) -> bool:
        """Whether this very key is here, and not only its id."""
        return self._keys.get(key.kid) == key

    @classmethod
    def from_jwks(cls, document: bytes | str) -> "KeySet":
        """Read a JWK set. Keys of kinds that sign no grants are passed over. Raises KeySetError."""
        try:
            entries = json.loads(document)["keys"]
            if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
                raise KeySetError("`keys` is not a list of keys")
            return cls(key for entry in entries if (key := _verifying_key(entry)) is not None)
        except (ValueError, KeyError, TypeError, RecursionError, jwt.PyJWTError) as error:
            raise KeySetError(f"not a usable JWK set: {error}") from error


def _verifying_key(entry: Mapping[str, Any]) -> VerifyingKey | None:
    kid, kind = entry.get("kid"), (entry.get("kty"), entry.get("crv"))
    algorithm = "EdDSA" if kind == ("OKP", "Ed25519") else "ES256" if kind == ("EC", "P-256") else None
    if not isinstance(kid, str) or not kid or algorithm is None or entry.get("use", "sig") != "sig":
        return None
    if entry.get("alg", algorithm) != algorithm:
        return None
    if "d" in entry:
        raise KeySetError(f"the key {kid!r} is a private one: replace it everywhere, and publish its public half only")
    reader = OKPAlgorithm if algorithm == "EdDSA" else ECAlgorithm
    key = reader.from_jwk(json.dumps(entry))
    assert isinstance(key, ALGORITHMS[algorithm]), "a JWK without `d` is a public key of its own kind"
    return VerifyingKey(kid=kid, algorithm=algorithm, key=key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What a good token proves, and by which key."""

    grant: Grant
    key: VerifyingKey


def verify(token: str, *, keys: KeySet, issuer: str, audience: str, now: float) -> Grant:
    """The grant that `token` proves at `now` (seconds since the epoch). Raises TokenRefusedError.

    Only what the token itself can show is checked here; `Grant.refuses` judges the connection that carries it.
    """
    return verify_with_key(token, keys=keys, issuer=issuer, audience=audience, now=now).grant


def verify_with_key(token: str, *, keys: KeySet, issuer: str, audience: str, now: float) -> Verified:
    """As `verify`, for whoever must know when that key is withdrawn."""
    if len(token.encode("utf-8", "replace")) > TOKEN_BYTES:
        raise TokenRefusedError(Refusal.OVERSIZED)
    if not token.isascii():
        raise TokenRefusedError(Refusal.MALFORMED)
    key = _key_for(token, keys)
    claims = _signed_claims(token, key)
    grant_id = _grant_id(claims)
    try:
        _check_claims(claims, issuer=issuer, audience=audience, now=now)
        return Verified(grant=_grant(claims), key=key)
    except TokenRefusedError as error:
        error.grant_id = grant_id
        raise
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise TokenRefusedError(Refusal.MISSING_CLAIM, str(error), grant_id=grant_id) from error


def _key_for(token: str, keys: KeySet) -> VerifyingKey:
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError) as error:  # the last two: not every PyJWT catches its own
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
    """The payload, once its signature is good. PyJWT checks the signature alone: what the claims mean is ours."""
    try:
        payload = jwt.PyJWS().decode(token, key.key, algorithms=[key.algorithm])
    except jwt.InvalidSignatureError as error:
        raise TokenRefusedError(Refusal.BAD_SIGNATURE) from error
    except jwt.PyJWTError as error:
        raise TokenRefusedError(Refusal.MALFORMED) from error
    try:
        claims = json.loads(payload.decode(), object_pairs_hook=_distinct, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise TokenRefusedError(Refusal.MALFORMED) from error
    if not isinstance(claims, dict):
        raise TokenRefusedError(Refusal.MALFORMED, "not an object")
    return claims


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object that names a claim twice, of which readers would take different ones (RFC 7519 section 4)."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice")
    return members


def _no_constant(name: str) -> float:
    """Refuse NaN and Infinity, which are no JSON: an end that compares as false would never come."""
    raise ValueError(f"{name} is no number")


def _grant_id(claims: Mapping[str, Any]) -> str | None:
    """The grant's id for the log and the record, where it is one."""
    try:
        return _text(claims, "jti")
    except (KeyError, ValueError):
        return None


def _check_claims(claims: Mapping[str, Any], *, issuer: str, audience: str, now: float) -> None:
    version = claims.get("v", TOKEN_VERSION)
    if type(version) is not int or version != TOKEN_VERSION:
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
    if end not in tuple(EndMode):
        raise TokenRefusedError(Refusal.UNSUPPORTED, "end mode")
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
        certificate=_text(claims["cnf"], "x5t#S256") if "cnf" in claims else None,
        end=EndMode(end),
        approved_by=_text(claims, "apr") if "apr" in claims else None,
        reason=_text(claims, "rsn") if "rsn" in claims else None,
    )


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims[name]
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"{name} is not a text")
    value.encode()  # a lone surrogate is JSON, but neither PostgreSQL nor the journal could take it: UnicodeEncodeError
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
    seconds = float(value)
    if not (math.isfinite(seconds) and 0 <= seconds <= LAST_SECOND):
        raise ValueError(f"{name} is not a time")
    return seconds


def _count(claims: Mapping[str, Any], name: str) -> int:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_COUNT:
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
        claims["rsn"] = _cut(grant.reason)
    return claims


def _cut(reason: str) -> str:
    """As much of `reason` as REASON_BYTES hold: beyond ASCII, JSON as PyJWT writes it takes 6 or 12 for a character."""
    reason = reason[:REASON_BYTES]
    while len(json.dumps(reason)) - len('""') > REASON_BYTES:
        reason = reason[:-1]
    return reason
