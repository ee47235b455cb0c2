"""The proof that a request comes from a proxy: a JWT of its own over the request, in the manner of DPoP (RFC 9449).

The proxy signs with its Ed25519 key; control knows the public half since the join. A proof names the method, the path
with its query and the body's hash, lives PROOF_S seconds and goes into `Authorization: Curfew-Proof <jwt>`.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PROOF_TYPE = "curfew-proof+jwt"
PROOF_AUDIENCE = "curfew-control"
PROOF_S = 60
SCHEME = "Curfew-Proof"


class ProofError(Exception):
    """The proof does not hold."""


def public_text(key: Ed25519PublicKey) -> str:
    """The public key's raw bytes in base64url without padding (RFC 8037 `x`)."""
    return base64.urlsafe_b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).rstrip(b"=").decode()


def public_key(text: str) -> Ed25519PublicKey:
    """The key that `public_text` wrote. Raises ValueError."""
    raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    key = Ed25519PublicKey.from_public_bytes(raw)
    if public_text(key) != text:
        raise ValueError("not base64url as it should be: one key has one spelling")
    return key


def make(key: Ed25519PrivateKey, *, proxy: str, method: str, path: str, body: bytes, now: float) -> str:
    """A proof for one request. `path` includes the query string."""
    claims = {
        "iss": proxy,
        "aud": PROOF_AUDIENCE,
        "iat": int(now),
        "exp": int(now) + PROOF_S,
        "jti": secrets.token_urlsafe(12),
        "htm": method,
        "htu": path,
        "bsh": hashlib.sha256(body).hexdigest(),
    }
    return jwt.encode(claims, key, algorithm="EdDSA", headers={"typ": PROOF_TYPE})


def issuer_of(proof: str) -> str:
    """Which proxy the proof claims to come from: only to find the key to `verify` it with. Raises ProofError."""
    try:
        claims = jwt.decode(proof, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise ProofError("not a proof") from error
    issuer = claims.get("iss")
    if not _is_text(issuer):
        raise ProofError("no issuer")
    return str(issuer)


def verify(proof: str, key: Ed25519PublicKey, *, method: str, path: str, body: bytes, now: float) -> dict[str, Any]:
    """The proof's claims; the caller refuses a `jti` seen before. Raises ProofError."""
    claims = verify_request(proof, key, method=method, path=path, now=now)
    verify_body(claims, body)
    return claims


def verify_request(proof: str, key: Ed25519PublicKey, *, method: str, path: str, now: float) -> dict[str, Any]:
    """As `verify`, but for the body, so that nobody unproven can make the verifier read one. Raises ProofError."""
    try:
        header = jwt.get_unverified_header(proof)
        if header.get("typ") != PROOF_TYPE or not header.keys() <= {"alg", "typ"}:
            raise ProofError("not a proof's header")
        unchecked = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}
        claims: dict[str, Any] = jwt.decode(
            proof,
            key,
            algorithms=["EdDSA"],
            audience=PROOF_AUDIENCE,
            options=unchecked,  # type: ignore[arg-type]
        )
        fresh = now - PROOF_S <= claims["iat"] <= now + PROOF_S and now < claims["exp"] <= claims["iat"] + PROOF_S
        same = claims["htm"] == method and claims["htu"] == path
    except (jwt.PyJWTError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ProofError("the proof does not verify") from error
    if not (fresh and same and _is_text(claims.get("jti")) and _is_text(claims.get("iss"))):
        raise ProofError("the proof is for another request")
    return claims


def verify_body(claims: Mapping[str, Any], body: bytes) -> None:
    """Check that a verified proof is for `body`. Raises ProofError."""
    if not hmac.compare_digest(
        str(claims.get("bsh")).encode(errors="replace"), hashlib.sha256(body).hexdigest().encode()
    ):
        raise ProofError("the proof is for another body")


def _is_text(value: object) -> bool:
    """Whether `value` is a text that can be looked up: not empty, and without JSON's lone surrogates."""
    return isinstance(value, str) and value != "" and value.isprintable()
